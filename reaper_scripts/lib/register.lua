-- @noindex
-- Makes REAPER list the installed actions and forget those of another installation. REAPER runs it when it starts
-- (a block in __startup.lua); run by hand, it registers anew and says what it did.

local SECTION, KEY, MAIN = "stembridge", "registered", 0
local OTHER_ENDING = {lua = "py", py = "lua"}

local slash = package.config:sub(1, 1)
local own_path = debug.getinfo(1, "S").source:sub(2)
if slash == "\\" then own_path = own_path:gsub("/", "\\") end
local root = own_path:match("^(.*)[/\\][^/\\]*[/\\][^/\\]*$")

local function path_of(folder, name)
  return table.concat({folder, "actions", name}, slash)
end

local function list_actions()
  local folder, names, index = root .. slash .. "actions", {}, 0
  reaper.EnumerateFiles(folder, -1) -- REAPER remembers what a folder held before
  local name = reaper.EnumerateFiles(folder, index)
  while name do
    if OTHER_ENDING[name:match("^stembridge_.+%.(%a+)$") or ""] then names[#names + 1] = name end
    index = index + 1
    name = reaper.EnumerateFiles(folder, index)
  end
  table.sort(names)
  return names
end

local function installed_version()
  local file = io.open(root .. slash .. "stembridge_config.json", "rb")
  if not file then return "" end
  local text = file:read("a")
  file:close()
  return text:match('"version"%s*:%s*"([^"]*)"') or ""
end

-- What is remembered is one line: version, folder and file names between "|", which no name of ours has.
local function read_registered(text)
  local fields = {}
  for field in (text .. "|"):gmatch("([^|]*)|") do fields[#fields + 1] = field end
  return fields[2], {table.unpack(fields, 3)}
end

-- Paths to forget: what was registered and is not wanted now, and each action's twin of the other language.
local function list_stale(names, remembered)
  local wanted, stale, seen = {}, {}, {}
  for _, name in ipairs(names) do wanted[path_of(root, name)] = true end
  local function add(path)
    if not wanted[path] and not seen[path] then
      seen[path] = true
      stale[#stale + 1] = path
    end
  end
  local old_root, old_names = read_registered(remembered)
  for _, name in ipairs(old_names) do add(path_of(old_root, name)) end
  for _, name in ipairs(names) do
    add(path_of(root, (name:gsub("%a+$", OTHER_ENDING))))
  end
  return stale
end

local function register(names, remembered)
  local stale, refused = list_stale(names, remembered), 0
  for index, path in ipairs(stale) do
    reaper.AddRemoveReaScript(false, MAIN, path, #names == 0 and index == #stale)
  end
  for index, name in ipairs(names) do
    if reaper.AddRemoveReaScript(true, MAIN, path_of(root, name), index == #names) == 0 then
      refused = refused + 1
    end
  end
  return refused
end

local names = list_actions()
local wanted = table.concat({installed_version(), root, table.unpack(names)}, "|")
local remembered = reaper.GetExtState(SECTION, KEY)
local _, running = reaper.get_action_context()
local is_by_hand = running:match("register%.lua$") ~= nil
if remembered == wanted and not is_by_hand then return end

local refused = register(names, remembered)
if refused == 0 then reaper.SetExtState(SECTION, KEY, wanted, true) end
if refused > 0 then
  reaper.ShowConsoleMsg(("Stembridge: REAPER did not take %d of %d actions of %s.\n"):format(refused, #names, root)
    .. "Python actions need Python: Preferences > Plug-ins > ReaScript.\n")
elseif is_by_hand then
  reaper.MB(("%d actions are in the action list: type \"stembridge\" there."):format(#names), "Stembridge", 0)
end
