-- @noindex
-- Leaves an action to the loop that carries all of them out, and starts that loop where none runs.
-- An action's own script ends at once: one that were still running when its user ran it again would have REAPER ask
-- which of the two to end.

local root, action = ...
local SECTION, MAIN, RUNNING = "stembridge", 0, 1

local slash = package.config:sub(1, 1)
local path = table.concat({ root, "actions", "stembridge_Background work of the other actions.lua" }, slash)

local command = tonumber(reaper.GetExtState(SECTION, "loop")) or reaper.AddRemoveReaScript(true, MAIN, path, true)
local waiting = reaper.GetExtState(SECTION, "inbox")
if command == 0 then
  reaper.ShowConsoleMsg(("Stembridge: REAPER does not take %s\n"):format(path))
elseif reaper.GetToggleCommandStateEx(MAIN, command) == RUNNING then
  reaper.SetExtState(SECTION, "inbox", waiting == "" and action or waiting .. "," .. action, false)
else
  reaper.SetExtState(SECTION, "loop", ("%.0f"):format(command), false)
  reaper.SetExtState(SECTION, "inbox", action, false)
  reaper.Main_OnCommandEx(command, 0, 0)
end
reaper.defer(function() end) -- or REAPER makes an undo step for having run this
