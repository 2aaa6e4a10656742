-- @description Stembridge: split items into stems that sum back to the original
-- @author Stembridge developers
-- @version 0.1.0
-- @about
--   # Stembridge
--
--   Actions that split the selected items into stems, in place: same sample, same fades, same folders. The stems
--   sum back to the original, and the original stays where it is, muted.
--
--   These scripts do no separation themselves. They need the program Stembridge on this computer: install it with
--   pip, then run the command `stembridge reaper install` once, which tells the scripts where it is.
-- @changelog
--   - First version.
-- @provides
--   [main] actions/*.lua
--   [nomain] lib/*.lua

local SETUP = [[
The actions need the program Stembridge on this computer. In a terminal:

  pip install "stembridge[daemon]"
  stembridge reaper install

Python 3.11 or later is needed for that. It need not be switched on in REAPER.
]]

local BACKGROUND = "Background work of the other actions" -- is started by the others, and has nothing to do alone

local slash = package.config:sub(1, 1)
local _, own_path = reaper.get_action_context()
local folder = own_path:match("^(.*)[/\\][^/\\]*$")

-- The command that the configuration names, '' without one.
local function configured_command()
  local file = io.open(folder .. slash .. "stembridge_config.json", "rb")
  if not file then return "" end
  local text = file:read("a")
  file:close()
  local cli = text:match('"cli"%s*:%s*"(.-[^\\])"') or ""
  return (cli:gsub('\\(["\\/])', "%1"))
end

local function list_titles()
  local actions, titles, index = folder .. slash .. "actions", {}, 0
  reaper.EnumerateFiles(actions, -1) -- REAPER remembers what a folder held before
  local name = reaper.EnumerateFiles(actions, index)
  while name do
    local title = name:match("^stembridge_(.+)%.lua$")
    if title ~= BACKGROUND then titles[#titles + 1] = title end
    index = index + 1
    name = reaper.EnumerateFiles(actions, index)
  end
  table.sort(titles)
  return titles
end

local function run(title)
  local path = table.concat({folder, "actions", "stembridge_" .. title .. ".lua"}, slash)
  local command = reaper.AddRemoveReaScript(true, 0, path, true)
  if command ~= 0 then
    reaper.Main_OnCommandEx(command, 0, 0)
  else
    reaper.MB("REAPER does not take " .. path, "Stembridge", 0)
  end
end

local function offer(titles)
  gfx.init("Stembridge", 0, 0, 0) -- a menu needs a window
  gfx.x, gfx.y = gfx.mouse_x, gfx.mouse_y
  local choice = gfx.showmenu(table.concat(titles, "|"))
  gfx.quit()
  if titles[choice] then run(titles[choice]) end
end

local command = configured_command()
if command == "" then
  reaper.ShowConsoleMsg("Stembridge is not set up yet.\n\n" .. SETUP)
elseif not reaper.file_exists(command) then
  reaper.ShowConsoleMsg(("Stembridge is not here any more: %s does not exist.\n\n"):format(command) .. SETUP)
else
  dofile(table.concat({folder, "lib", "register.lua"}, slash)) -- forgets the actions of another installation
  offer(list_titles())
end
