-- @noindex
-- Stembridge: Switch between original and stems

local _, path = reaper.get_action_context()
local root = path:match("^(.*)[/\\][^/\\]+[/\\][^/\\]+$")
assert(loadfile(root .. "/lib/ask.lua"))(root, "toggle")
