-- @noindex
-- Stembridge: Split selected items into drums and the rest

local _, path = reaper.get_action_context()
local root = path:match("^(.*)[/\\][^/\\]+[/\\][^/\\]+$")
assert(loadfile(root .. "/lib/ask.lua"))(root, "drums_rest")
