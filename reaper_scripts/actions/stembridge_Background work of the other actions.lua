-- @noindex
-- Stembridge: what carries out the other actions; they start it, and it ends when nothing is left to do.

local _, path, section, command = reaper.get_action_context()
local root = path:match("^(.*)[/\\][^/\\]+[/\\][^/\\]+$")
assert(loadfile(root .. "/lib/stembridge.lua"))(root).run(section, command)
