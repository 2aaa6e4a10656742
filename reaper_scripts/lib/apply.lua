-- @noindex
-- Carries out one order to change the project: everything in one tick and one undo block, or nothing at all.

local json, collect = ...

local apply = {}

-- Name of each operation -> kinds of its arguments.
apply.ARGUMENTS = {
  expect_item = { "item", "values" },
  expect_take = { "take", "values" },
  expect_track = { "track", "values" },
  insert_track = { "new", "track", "int" },
  append_track = { "new" },
  set_track = { "track", "parm", "number" },
  set_track_text = { "track", "parm", "text" },
  color_track = { "track", "int", "int", "int" },
  color_take = { "take", "int", "int", "int" },
  add_item = { "new", "track" },
  add_take = { "new", "item" },
  set_file = { "take", "text" },
  wrap_section = { "item", "lines" },
  set_item = { "item", "parm", "number" },
  set_item_text = { "item", "parm", "text" },
  set_take = { "take", "parm", "number" },
  set_take_text = { "take", "parm", "text" },
  copy_item = { "item", "item", "parm", "number" },
  copy_take = { "take", "take", "parm", "number" },
  copy_effects = { "take", "take" },
  mark_take = { "take", "number", "text", "int" },
  activate = { "take" },
  split_item = { "new", "item", "number" },
  remove_item = { "item" },
  remove_track = { "track" },
  select_only = { "item" },
  restore_selection = {},
  command = { "int" },
  demand_new_take = { "item", "text" },
  read_file = { "text", "take" },
  project_text = { "parm", "text" },
  project_value = { "parm", "number" },
}

-- REAPER's own actions that `command` may run: render to new take, delete active take, toggle reverse,
-- new project tab, close project tab, render project.
apply.COMMANDS = { 41999, 40129, 41051, 40859, 40860, 41824 }

local EXPECTED = { expect_item = "item", expect_take = "take", expect_track = "track" }
local MADE_KIND = {
  insert_track = "track", append_track = "track", add_item = "item", add_take = "take", split_item = "item",
}
local CUSTOM_COLOR = 0x1000000
local TYPES = { item = "MediaItem*", take = "MediaItem_Take*", track = "MediaTrack*" }
local READ_TEXT = {
  item = function(...) return reaper.GetSetMediaItemInfo_String(...) end,
  take = function(...) return reaper.GetSetMediaItemTakeInfo_String(...) end,
  track = function(...) return reaper.GetSetMediaTrackInfo_String(...) end,
}
local READ_VALUE = {
  item = function(...) return reaper.GetMediaItemInfo_Value(...) end,
  take = function(...) return reaper.GetMediaItemTakeInfo_Value(...) end,
  track = function(...) return reaper.GetMediaTrackInfo_Value(...) end,
}
local WRITE_VALUE = {
  item = function(...) return reaper.SetMediaItemInfo_Value(...) end,
  take = function(...) return reaper.SetMediaItemTakeInfo_Value(...) end,
  track = function(...) return reaper.SetMediaTrackInfo_Value(...) end,
}

-- What stops an order: `reason` is "changed", "missing" or "error".
local function refuse(reason, text)
  error({ reason = reason, text = text }, 0)
end

local function fail(text)
  refuse("error", text)
end

local function read_guid(kind, pointer)
  local _, guid = READ_TEXT[kind](pointer, "GUID", "", false)
  return guid
end

-- The things an order names: GUIDs to pointers, and the names of what it makes to GUIDs.

local function index_takes(state, item)
  for index = 0, reaper.CountTakes(item) - 1 do
    local take = reaper.GetTake(item, index)
    if take then state.take[read_guid("take", take)] = take end
  end
end

local function index_project(project)
  local state = { project = project, item = {}, take = {}, track = {}, names = {}, made = {}, read = {} }
  for index = 0, reaper.CountTracks(project) - 1 do
    local track = reaper.GetTrack(project, index)
    state.track[read_guid("track", track)] = track
  end
  for index = 0, reaper.CountMediaItems(project) - 1 do
    local item = reaper.GetMediaItem(project, index)
    state.item[read_guid("item", item)] = item
    index_takes(state, item)
  end
  return state
end

local function find_pointer(state, kind, name)
  local pointer = state[kind][state.names[name] or name]
  if pointer and reaper.ValidatePtr2(state.project, pointer, TYPES[kind]) then return pointer end
  return nil
end

-- The thing of this kind, or nil; a take may be named by its item.
local function find_thing(state, kind, name)
  local pointer = find_pointer(state, kind, name)
  if pointer or kind ~= "take" then return pointer end
  local item = find_pointer(state, "item", name)
  return item and reaper.GetActiveTake(item) or nil
end

local function get_thing(state, kind, name)
  return find_thing(state, kind, name) or refuse("missing", ("the %s %s is gone"):format(kind, name))
end

local function name_thing(state, kind, name, pointer)
  if not pointer then fail(("REAPER made no %s for %s"):format(kind, name)) end
  local guid = read_guid(kind, pointer)
  state[kind][guid], state.names[name], state.made[name] = pointer, guid, guid
end

-- Arguments: each kind says what may travel.

local function is_finite(value)
  return type(value) == "number" and value == value and value ~= math.huge and value ~= -math.huge
end

local function is_whole(value)
  return is_finite(value) and math.tointeger(value) ~= nil
end

local function is_text(value)
  return type(value) == "string"
end

local function is_new(value)
  return is_text(value) and value:sub(1, 1) == "$"
end

local function is_values(value)
  if not json.is_object(value) then return false end
  for _, wanted in pairs(value) do
    if not is_finite(wanted) then return false end
  end
  return true
end

local function is_lines(value)
  if not json.is_array(value) then return false end
  for _, line in ipairs(value) do
    if not is_text(line) then return false end
  end
  return true
end

local IS_KIND = {
  item = is_text, take = is_text, track = is_text, parm = is_text, text = is_text,
  new = is_new, number = is_finite, int = is_whole, values = is_values, lines = is_lines,
}

local function is_allowed(command)
  for _, id in ipairs(apply.COMMANDS) do
    if id == command then return true end
  end
  return false
end

-- A name of its own stands for what an operation before this one makes.
local function check_made(operation, kind, name, promised)
  local made = promised[name]
  if made ~= kind and not (kind == "take" and made == "item") then
    fail(("%s: nothing before makes the %s %s"):format(operation, kind, name))
  end
end

local function check_form(operation, promised)
  local name = json.is_array(operation) and operation[1]
  local kinds = is_text(name) and apply.ARGUMENTS[name]
  if not kinds then fail("no operation is called " .. tostring(name)) end
  if #operation - 1 ~= #kinds then fail(("%s takes %d arguments, not %d"):format(name, #kinds, #operation - 1)) end
  for index, kind in ipairs(kinds) do
    local value = operation[index + 1]
    if not IS_KIND[kind](value) then
      fail(("%s: argument %d is no %s: %s"):format(name, index, kind, tostring(value)))
    end
    if TYPES[kind] and is_new(value) then
      if EXPECTED[name] then fail(name .. " knows nothing of what is made later") end
      check_made(name, kind, value, promised)
    end
    if kind == "new" then
      if promised[value] then fail(("%s: there is a %s already"):format(name, value)) end
      promised[value] = MADE_KIND[name]
    end
  end
  if name == "command" and not is_allowed(operation[2]) then fail(("command %d is not allowed"):format(operation[2])) end
end

local function check_presence(state, operation)
  for index, kind in ipairs(apply.ARGUMENTS[operation[1]]) do
    local name = operation[index + 1]
    if TYPES[kind] and not is_new(name) then get_thing(state, kind, name) end
  end
end

local function check_values(state, operation)
  local kind = EXPECTED[operation[1]]
  if not kind then return end
  local thing = get_thing(state, kind, operation[2])
  local names = {}
  for name in pairs(operation[3]) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local wanted, found = operation[3][name], READ_VALUE[kind](thing, name)
    if found ~= wanted then
      refuse("changed", ("%s of the %s is %.17g, it was %.17g"):format(name, kind, found, wanted))
    end
  end
end

-- An older REAPER answers false for a value it does not know; that is well where the value is so already.
local function write_value(kind, thing, name, value)
  value = value + 0.0
  if not WRITE_VALUE[kind](thing, name, value) and READ_VALUE[kind](thing, name) ~= value then
    fail(("REAPER did not take %s = %.17g"):format(name, value))
  end
end

local function write_text(kind, thing, name, text)
  if READ_TEXT[kind](thing, name, text, true) then return end
  local _, found = READ_TEXT[kind](thing, name, "", false)
  if found ~= text then fail(("REAPER did not take %s = %s"):format(name, text)) end
end

local function pick_color(r, g, b)
  return reaper.ColorToNative(math.tointeger(r), math.tointeger(g), math.tointeger(b)) | CUSTOM_COLOR
end

local function insert_track(project, index)
  if reaper.EnumProjects(-1) == project then
    reaper.InsertTrackAtIndex(index, false)
  else
    reaper.InsertTrackInProject(project, index, 0)
  end
  return reaper.GetTrack(project, index)
end

-- Put the first SOURCE block of an item's chunk into a SECTION; nil where there is no such block.
function apply.wrap_source(chunk, lines)
  local kept, depth, start = {}, 0, nil
  for line in (chunk:gsub("\r\n", "\n") .. "\n"):gmatch("(.-)\n") do
    local word = line:match("^%s*(%S*)")
    if not start and depth == 1 and word == "<SOURCE" then
      start = depth
      kept[#kept + 1] = "<SOURCE SECTION"
      for _, extra in ipairs(lines) do kept[#kept + 1] = extra end
    end
    kept[#kept + 1] = line
    if word:sub(1, 1) == "<" then depth = depth + 1 end
    if word == ">" then
      depth = depth - 1
      if start == depth then
        kept[#kept + 1] = ">"
        start = -1
      end
    end
  end
  if start ~= -1 then return nil end
  while kept[#kept] == "" do kept[#kept] = nil end
  return table.concat(kept, "\n") .. "\n"
end

local function keep_selection(state)
  if state.selected then return end
  state.selected = {}
  for index = 0, reaper.CountSelectedMediaItems(state.project) - 1 do
    state.selected[index + 1] = reaper.GetSelectedMediaItem(state.project, index)
  end
end

local function restore_selection(state)
  if not state.selected then return end
  reaper.SelectAllMediaItems(state.project, false)
  for _, item in ipairs(state.selected) do
    if reaper.ValidatePtr2(state.project, item, TYPES.item) then reaper.SetMediaItemSelected(item, true) end
  end
  state.selected = nil
end

local function want_peaks(state, take)
  state.peaks[#state.peaks + 1] = { project = state.project, take = take }
end

local RUN = {}

function RUN.expect_item() end

function RUN.expect_take() end

function RUN.expect_track() end

function RUN.insert_track(state, name, after, offset)
  local number = READ_VALUE.track(get_thing(state, "track", after), "IP_TRACKNUMBER")
  name_thing(state, "track", name, insert_track(state.project, math.tointeger(number + offset)))
end

function RUN.append_track(state, name)
  name_thing(state, "track", name, insert_track(state.project, reaper.CountTracks(state.project)))
end

function RUN.set_track(state, track, parm, value)
  write_value("track", get_thing(state, "track", track), parm, value)
end

function RUN.set_track_text(state, track, parm, text)
  write_text("track", get_thing(state, "track", track), parm, text)
end

function RUN.color_track(state, track, r, g, b)
  write_value("track", get_thing(state, "track", track), "I_CUSTOMCOLOR", pick_color(r, g, b))
end

function RUN.color_take(state, take, r, g, b)
  write_value("take", get_thing(state, "take", take), "I_CUSTOMCOLOR", pick_color(r, g, b))
end

function RUN.add_item(state, name, track)
  name_thing(state, "item", name, reaper.AddMediaItemToTrack(get_thing(state, "track", track)))
end

function RUN.add_take(state, name, item)
  name_thing(state, "take", name, reaper.AddTakeToMediaItem(get_thing(state, "item", item)))
end

function RUN.set_file(state, take, path)
  local thing = get_thing(state, "take", take)
  local source = reaper.PCM_Source_CreateFromFile(path)
  if not source then fail("REAPER cannot open " .. path) end
  if not reaper.SetMediaItemTake_Source(thing, source) then fail("REAPER did not take " .. path) end
  want_peaks(state, thing)
end

function RUN.wrap_section(state, item, lines)
  local thing = get_thing(state, "item", item)
  local is_read, chunk = reaper.GetItemStateChunk(thing, "", false)
  local wrapped = is_read and apply.wrap_source(chunk, lines)
  if not wrapped then fail("the item has no source to make a section of") end
  if not reaper.SetItemStateChunk(thing, wrapped, false) then fail("REAPER did not take the section") end
  -- Takes are made anew from a chunk: what pointed to them is stale.
  index_takes(state, thing)
  want_peaks(state, reaper.GetActiveTake(thing))
end

function RUN.set_item(state, item, parm, value)
  write_value("item", get_thing(state, "item", item), parm, value)
end

function RUN.set_item_text(state, item, parm, text)
  write_text("item", get_thing(state, "item", item), parm, text)
end

function RUN.set_take(state, take, parm, value)
  write_value("take", get_thing(state, "take", take), parm, value)
end

function RUN.set_take_text(state, take, parm, text)
  write_text("take", get_thing(state, "take", take), parm, text)
end

function RUN.copy_item(state, source, target, parm, add)
  local value = READ_VALUE.item(get_thing(state, "item", source), parm)
  write_value("item", get_thing(state, "item", target), parm, value + add)
end

function RUN.copy_take(state, source, target, parm, add)
  local value = READ_VALUE.take(get_thing(state, "take", source), parm)
  write_value("take", get_thing(state, "take", target), parm, value + add)
end

function RUN.copy_effects(state, from, to)
  local source, target = get_thing(state, "take", from), get_thing(state, "take", to)
  for effect = 0, reaper.TakeFX_GetCount(source) - 1 do
    reaper.TakeFX_CopyToTake(source, effect, target, reaper.TakeFX_GetCount(target), false)
  end
end

function RUN.mark_take(state, take, at, name, color)
  reaper.SetTakeMarker(get_thing(state, "take", take), -1, name, at + 0.0, math.tointeger(color))
end

function RUN.activate(state, take)
  reaper.SetActiveTake(get_thing(state, "take", take))
end

function RUN.split_item(state, name, item, position)
  name_thing(state, "item", name, reaper.SplitMediaItem(get_thing(state, "item", item), position + 0.0))
end

function RUN.remove_item(state, item)
  local thing = get_thing(state, "item", item)
  if not reaper.DeleteTrackMediaItem(reaper.GetMediaItem_Track(thing), thing) then fail("REAPER did not remove the item") end
end

function RUN.remove_track(state, track)
  reaper.DeleteTrack(get_thing(state, "track", track))
end

function RUN.select_only(state, item)
  local thing = get_thing(state, "item", item)
  keep_selection(state)
  reaper.SelectAllMediaItems(state.project, false)
  reaper.SetMediaItemSelected(thing, true)
end

function RUN.restore_selection(state)
  restore_selection(state)
end

function RUN.command(state, id)
  reaper.Main_OnCommandEx(math.tointeger(id), 0, state.project)
end

function RUN.demand_new_take(state, item, guid)
  local take = reaper.GetActiveTake(get_thing(state, "item", item))
  if not take or read_guid("take", take) == guid then fail("REAPER made no new take") end
end

function RUN.read_file(state, name, take)
  local path = collect.find_path(get_thing(state, "take", take))
  state.read[name] = json.clean(path or "")
end

function RUN.project_text(state, parm, text)
  if not reaper.GetSetProjectInfo_String(state.project, parm, text, true) then
    fail(("REAPER did not take %s = %s"):format(parm, text))
  end
end

function RUN.project_value(state, parm, value)
  reaper.GetSetProjectInfo(state.project, parm, value + 0.0, true)
end

apply.RUN = RUN

local function describe(at, failure)
  if type(failure) ~= "table" then failure = { reason = "error", text = tostring(failure) } end
  return { ok = false, reason = failure.reason, at = at - 1, text = failure.text }
end

-- Run `work` on each operation; nil, or what stopped it.
local function walk(operations, work)
  for index, operation in ipairs(operations) do
    local is_done, failure = pcall(work, operation)
    if not is_done then return describe(index, failure) end
  end
  return nil
end

local function find_problem(state, operations)
  return walk(operations, function(operation) check_presence(state, operation) end)
    or walk(operations, function(operation) check_values(state, operation) end)
end

apply.CLOSED = { ok = false, reason = "missing", at = 0, text = "the project was closed" }

local UNDONE = "Stembridge: taken back"

local function change(state, order)
  local project = state.project
  local label = order.undo
  reaper.Undo_BeginBlock2(project)
  reaper.PreventUIRefresh(1)
  local failure = walk(order.ops, function(operation)
    RUN[operation[1]](state, table.unpack(operation, 2))
  end)
  if failure then
    failure.reason = "error"
    -- Without a step of its own there would be nothing to undo.
    if label == "" then label = UNDONE end
  end
  local is_open = reaper.ValidatePtr2(0, project, "ReaProject*")
  if is_open then pcall(restore_selection, state) end
  reaper.PreventUIRefresh(-1)
  reaper.TrackList_AdjustWindows(false)
  reaper.UpdateArrange()
  if not is_open then return failure end
  reaper.Undo_EndBlock2(project, label, label == "" and 0 or -1)
  if failure and reaper.Undo_CanUndo2(project) == label then reaper.Undo_DoUndo2(project) end
  return failure
end

-- Whether an apply can be done now: REAPER's older function to insert a track, and its own actions for sure, only
-- know the tab in front.
function apply.is_ready(order, project)
  if reaper.EnumProjects(-1) == project then return true end
  local can_insert = reaper.APIExists("InsertTrackInProject")
  for _, operation in ipairs(order.ops or {}) do
    local name = json.is_array(operation) and operation[1]
    if name == "command" then return false end
    if (name == "insert_track" or name == "append_track") and not can_insert then return false end
  end
  return true
end

-- The result of an order, and the takes whose peaks are to be built.
function apply.run(order, project)
  local start = reaper.time_precise()
  local promised = {}
  local failure = walk(order.ops, function(operation) check_form(operation, promised) end)
  if failure then return failure, {} end
  if not reaper.ValidatePtr2(0, project, "ReaProject*") then return apply.CLOSED, {} end
  local state = index_project(project)
  state.peaks = {}
  failure = find_problem(state, order.ops) or change(state, order)
  if failure then return failure, {} end
  local elapsed_ms = (reaper.time_precise() - start) * 1000.0
  return { ok = true, ms = elapsed_ms, made = state.made, read = state.read }, state.peaks
end

local Peaks = {}
Peaks.__index = Peaks

-- Peaks are built after the stems lie there, a little in every tick.
function apply.queue_peaks()
  return setmetatable({ waiting = {} }, Peaks)
end

function Peaks:add(entries)
  for _, entry in ipairs(entries) do self.waiting[#self.waiting + 1] = entry end
end

function Peaks:is_empty()
  return #self.waiting == 0
end

-- One call: begin, go on or finish with the first take of the queue.
function Peaks:advance()
  local entry = self.waiting[1]
  local project = entry.project
  local is_there = reaper.ValidatePtr2(0, project, "ReaProject*")
    and reaper.ValidatePtr2(project, entry.take, TYPES.take)
  local source = is_there and reaper.GetMediaItemTake_Source(entry.take)
  if not source or (entry.source and entry.source ~= source) then
    table.remove(self.waiting, 1)
  elseif not entry.source then
    entry.source = source
    if reaper.PCM_Source_BuildPeaks(source, 0) == 0 then table.remove(self.waiting, 1) end
  elseif entry.is_built then
    reaper.PCM_Source_BuildPeaks(source, 2)
    table.remove(self.waiting, 1)
  else
    entry.is_built = reaper.PCM_Source_BuildPeaks(source, 1) == 0
  end
end

return apply
