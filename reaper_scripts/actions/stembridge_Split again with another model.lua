-- @noindex
-- Stembridge: Split again with another model

local _, path = reaper.get_action_context()
local root = path:match("^(.*)[/\\][^/\\]+[/\\][^/\\]+$")
assert(loadfile(root .. "/lib/ask.lua"))(root, "resplit")
