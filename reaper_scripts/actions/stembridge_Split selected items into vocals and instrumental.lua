-- @noindex
-- Stembridge: Split selected items into vocals and instrumental

local _, path = reaper.get_action_context()
local root = path:match("^(.*)[/\\][^/\\]+[/\\][^/\\]+$")
assert(loadfile(root .. "/lib/ask.lua"))(root, "vocals_instrumental")
