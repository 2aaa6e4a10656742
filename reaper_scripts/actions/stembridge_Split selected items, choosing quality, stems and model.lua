-- @noindex
-- Stembridge: Split selected items, choosing quality, stems and model

local _, path = reaper.get_action_context()
local root = path:match("^(.*)[/\\][^/\\]+[/\\][^/\\]+$")
assert(loadfile(root .. "/lib/ask.lua"))(root, "split_choose")
