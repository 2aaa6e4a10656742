-- @noindex
-- Stembridge: Import stems from elsewhere

local _, path = reaper.get_action_context()
local root = path:match("^(.*)[/\\][^/\\]+[/\\][^/\\]+$")
assert(loadfile(root .. "/lib/ask.lua"))(root, "import_stems")
