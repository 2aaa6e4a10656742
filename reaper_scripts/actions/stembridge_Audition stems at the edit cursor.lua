-- @noindex
-- Stembridge: Audition stems at the edit cursor

local _, path = reaper.get_action_context()
local root = path:match("^(.*)[/\\][^/\\]+[/\\][^/\\]+$")
assert(loadfile(root .. "/lib/ask.lua"))(root, "audition")
