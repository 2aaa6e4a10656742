-- @noindex
-- Reads what an order asks for out of the project: raw values under REAPER's own names, a few items at a time.

local json = ...

local collect = {}

collect.ITEM_VALUES = {
  "D_POSITION", "D_LENGTH", "D_SNAPOFFSET", "D_VOL",
  "B_MUTE", "B_MUTE_ACTUAL", "B_LOOPSRC", "B_ALLTAKESPLAY",
  "C_BEATATTACHMODE", "C_AUTOSTRETCH", "C_LOCK", "I_GROUPID", "I_CURTAKE", "I_CUSTOMCOLOR", "C_LANEPLAYS",
  "D_FADEINLEN", "D_FADEINLEN_AUTO", "D_FADEINDIR", "C_FADEINSHAPE",
  "D_FADEOUTLEN", "D_FADEOUTLEN_AUTO", "D_FADEOUTDIR", "C_FADEOUTSHAPE", "I_FADELPF",
}
collect.TAKE_VALUES = {
  "D_STARTOFFS", "D_PLAYRATE", "D_PITCH", "B_PPITCH", "I_PITCHMODE", "I_STRETCHFLAGS", "F_STRETCHFADESIZE",
  "I_CHANMODE", "D_VOL", "D_PAN", "D_PANLAW", "I_CUSTOMCOLOR", "IP_SPECEDIT:CNT",
}
collect.TRACK_VALUES = {
  "IP_TRACKNUMBER", "I_FOLDERDEPTH", "I_NCHAN", "C_BEATATTACHMODE", "I_CUSTOMCOLOR",
  "D_VOL", "D_PAN", "D_PANLAW", "B_MUTE", "I_SOLO", "B_PHASE", "B_MAINSEND", "I_RECARM", "I_FREEMODE",
  "D_PLAY_OFFSET", "I_PLAY_OFFSET_FLAG",
}
collect.TAG = "P_EXT:stembridge"

local MAX_WRAPPERS = 16

local function read_values(read, owner, names)
  local values = {}
  for _, name in ipairs(names) do values[name] = read(owner, name) end
  return values
end

local function read_text(read, owner, name)
  local is_there, text = read(owner, name, "", false)
  return is_there and json.clean(text) or ""
end

-- The file's own source under any number of wrappers, and how many there are.
function collect.find_root(source)
  local depth = 0
  while depth < MAX_WRAPPERS do
    local parent = reaper.GetMediaSourceParent(source)
    if not parent then break end
    source, depth = parent, depth + 1
  end
  return source, depth
end

-- The path of the file a take plays, as it is; nil where it plays none.
function collect.find_path(take)
  local source = reaper.GetMediaItemTake_Source(take)
  return source and reaper.GetMediaSourceFileName((collect.find_root(source)))
end

local function read_section(source)
  local is_section, offset, length, is_reversed = reaper.PCM_Source_GetSectionInfo(source)
  return is_section and json.array({ offset, length, is_reversed }) or json.null
end

local function read_source(item, take)
  local source = reaper.GetMediaItemTake_Source(take)
  if not source then return json.null end
  local root, depth = collect.find_root(source)
  local length, is_in_beats = reaper.GetMediaSourceLength(source)
  local raw_path = reaper.GetMediaSourceFileName(root)
  local path = json.clean(raw_path)
  local chunk = ""
  if depth > 0 then
    local is_read, text = reaper.GetItemStateChunk(item, "", false)
    chunk = is_read and json.clean(text) or ""
  end
  return {
    type = json.clean(reaper.GetMediaSourceType(root)),
    path = path,
    exists = raw_path ~= "" and path == raw_path and reaper.file_exists(path),
    rate = reaper.GetMediaSourceSampleRate(root),
    channels = reaper.GetMediaSourceNumChannels(root),
    length = length,
    length_in_beats = is_in_beats,
    file_length = (reaper.GetMediaSourceLength(root)),
    depth = depth,
    section = depth > 0 and read_section(source) or json.null,
    chunk = chunk,
  }
end

local function read_markers(take)
  local markers = json.array()
  for index = 0, reaper.GetNumTakeMarkers(take) - 1 do
    local at, name, color = reaper.GetTakeMarker(take, index)
    markers[index + 1] = json.array({ at, name, color or 0 })
  end
  return markers
end

local function read_take(item)
  local take = reaper.GetActiveTake(item)
  if not take then return json.null end
  local read_string = reaper.GetSetMediaItemTakeInfo_String
  return {
    guid = read_text(read_string, take, "GUID"),
    index = math.tointeger(reaper.GetMediaItemInfo_Value(item, "I_CURTAKE")),
    name = read_text(read_string, take, "P_NAME"),
    is_midi = reaper.TakeIsMIDI(take),
    fx = reaper.TakeFX_GetCount(take),
    envelopes = reaper.CountTakeEnvelopes(take),
    stretch_markers = reaper.GetTakeNumStretchMarkers(take),
    markers = read_markers(take),
    values = read_values(reaper.GetMediaItemTakeInfo_Value, take, collect.TAKE_VALUES),
    source = read_source(item, take),
  }
end

local function read_item(item, selected)
  local read_string = reaper.GetSetMediaItemInfo_String
  local guid = read_text(read_string, item, "GUID")
  return {
    guid = guid,
    track = read_text(reaper.GetSetMediaTrackInfo_String, reaper.GetMediaItem_Track(item), "GUID"),
    is_selected = selected[guid] or false,
    notes = read_text(read_string, item, "P_NOTES"),
    tag = read_text(read_string, item, collect.TAG),
    takes = reaper.CountTakes(item),
    values = read_values(reaper.GetMediaItemInfo_Value, item, collect.ITEM_VALUES),
    take = read_take(item),
  }
end

local function read_track(track)
  local read_string = reaper.GetSetMediaTrackInfo_String
  return {
    guid = read_text(read_string, track, "GUID"),
    name = read_text(read_string, track, "P_NAME"),
    tag = read_text(read_string, track, collect.TAG),
    fx = reaper.TrackFX_GetCount(track),
    items = reaper.CountTrackMediaItems(track),
    values = read_values(reaper.GetMediaTrackInfo_Value, track, collect.TRACK_VALUES),
  }
end

-- The path of an open project, '' while it is unsaved; nil where the tab has been closed.
function collect.find_project_path(project)
  local index = 0
  while true do
    local candidate, path = reaper.EnumProjects(index)
    if not candidate then return nil end
    if candidate == project then return json.clean(path) end
    index = index + 1
  end
end

local function read_project(project)
  local path = collect.find_project_path(project) or ""
  return {
    name = json.clean(reaper.GetProjectName(project)),
    path = path,
    media_dir = json.clean(reaper.GetProjectPathEx(project)),
    is_saved = path ~= "",
    rate = reaper.GetSetProjectInfo(project, "PROJECT_SRATE", 0, false),
    reaper = reaper.GetAppVersion(),
    os = reaper.GetOS(),
  }
end

local function read_host(project)
  local from, to = reaper.GetSet_LoopTimeRange2(project, false, false, 0, 0, false)
  return { cursor = reaper.GetCursorPositionEx(project), time_selection = json.array({ from, to }) }
end

local function list_set(values)
  local set = {}
  for _, value in ipairs(values or {}) do set[value] = true end
  return set
end

local function has_guid(item, guids)
  local _, guid = reaper.GetSetMediaItemInfo_String(item, "GUID", "", false)
  return guids[guid] or false
end

local function plays_file(item, path)
  local take = reaper.GetActiveTake(item)
  local own = take and collect.find_path(take)
  return own ~= nil and json.clean(own) == path
end

local WANTED = {
  selection = function(item, _, selected) return has_guid(item, selected) end,
  items = function(item, order) return has_guid(item, order.guids) end,
  kin = function(item, order) return has_guid(item, order.guids) or plays_file(item, order.path) end,
  tagged = function(item, _, selected)
    return has_guid(item, selected) or read_text(reaper.GetSetMediaItemInfo_String, item, collect.TAG) ~= ""
  end,
  all = function() return true end,
  project = function() return false end,
}

-- What the user means by running an action: the selected items, the cursor, the time selection. `selected` is the
-- set of the items' GUIDs; those of `unnamed` are still to be read.
function collect.keep_moment(project)
  local unnamed = {}
  for index = 0, reaper.CountSelectedMediaItems(project) - 1 do
    unnamed[index + 1] = reaper.GetSelectedMediaItem(project, index)
  end
  return { selected = {}, unnamed = unnamed, host = read_host(project) }
end

-- Read the GUID of one more item of the moment; whether there was one.
function collect.name_next(project, moment)
  local item = table.remove(moment.unnamed)
  if not item then return false end
  if reaper.ValidatePtr2(0, project, "ReaProject*") and reaper.ValidatePtr2(project, item, "MediaItem*") then
    moment.selected[read_text(reaper.GetSetMediaItemInfo_String, item, "GUID")] = true
  end
  return true
end

local function list_items(project, order, selected, pause)
  local is_wanted = WANTED[order.what] or error("nothing is known of collecting " .. tostring(order.what), 0)
  local all, found, wanted = {}, {}, { guids = list_set(order.guids), path = order.path }
  for index = 0, reaper.CountMediaItems(project) - 1 do all[index + 1] = reaper.GetMediaItem(project, index) end
  for _, item in ipairs(all) do
    pause()
    if reaper.ValidatePtr2(project, item, "MediaItem*") and is_wanted(item, wanted, selected) then
      found[#found + 1] = item
    end
  end
  return found
end

local function list_tracks(project)
  local found = {}
  for index = 0, reaper.CountTracks(project) - 1 do found[index + 1] = reaper.GetTrack(project, index) end
  return found
end

-- Each thing as JSON text, so that no tick has to write all of them. What has vanished is left out.
local function read_all(project, things, kind, read, pause)
  local texts = json.array()
  for _, thing in ipairs(things) do
    pause()
    local text = reaper.ValidatePtr2(project, thing, kind) and read(thing)
    if text then texts[#texts + 1] = json.raw(text) end
  end
  return texts
end

-- What cannot be read is left out and said: one odd item does not keep the others from being split.
local function write_item(item, selected, lines)
  local is_read, text = pcall(function() return json.encode(read_item(item, selected)) end)
  if is_read then return text end
  local position = reaper.GetMediaItemInfo_Value(item, "D_POSITION")
  lines[#lines + 1] = ("the item at %.3f s cannot be read: %s"):format(position, tostring(text))
  return nil
end

-- The snapshot that an order asks for, and a line for each item that is left out. `pause` is called before each
-- thing that is read: it may yield. `moment` is that in which the user ran the action.
function collect.read_snapshot(project, order, pause, moment)
  while collect.name_next(project, moment) do pause() end
  local selected, host, lines = moment.selected, moment.host, {}
  local items, tracks = list_items(project, order, selected, pause), list_tracks(project)
  local function read(item) return write_item(item, selected, lines) end
  return {
    project = read_project(project),
    host = { play = reaper.GetPlayStateEx(project), cursor = host.cursor, time_selection = host.time_selection },
    items = read_all(project, items, "MediaItem*", read, pause),
    tracks = read_all(project, tracks, "MediaTrack*", function(track) return json.encode(read_track(track)) end, pause),
  }, lines
end

local FULL_SCALE = 2.0 ^ 23
local BLOCK_FRAMES = 4096
-- A product that is nearer to a whole number of Hz is one, but for rounding.
local WHOLE = 1e-6

local function read_block(accessor, rate, channels, at, frames)
  local buffer = reaper.new_array(frames * channels)
  buffer.clear()
  reaper.GetAudioAccessorSamples(accessor, rate, channels, at, frames, buffer)
  local samples = buffer.table()
  local texts = {}
  for frame = 1, frames do
    texts[frame] = ("%d"):format(math.floor(samples[(frame - 1) * channels + 1] * FULL_SCALE + 0.5))
  end
  return table.concat(texts, ",")
end

-- `rate` is the accessor's, whose time is that of the item: a source frame lasts shorter there the faster it plays.
local function read_blocks(project, item, take, accessor, rate, order, pause)
  local done, texts = 0, {}
  local values = read_values(reaper.GetMediaItemTakeInfo_Value, take, { "D_STARTOFFS", "D_PLAYRATE" })
  local start = (order.start_s - values.D_STARTOFFS) / values.D_PLAYRATE
  local channels = math.max(1, reaper.GetMediaSourceNumChannels(reaper.GetMediaItemTake_Source(take)))
  while done < order.frames do
    pause()
    if not reaper.ValidatePtr2(project, item, "MediaItem*") then error("the item was removed", 0) end
    local frames = math.min(BLOCK_FRAMES, order.frames - done)
    texts[#texts + 1] = read_block(accessor, rate, channels, start + done / rate, frames)
    done = done + frames
  end
  return "[" .. table.concat(texts, ",") .. "]"
end

-- What a listener hears: channel 1 of what an item plays, as integers of 2^-23. `start_s` and `rate` are the
-- source's; no samples where an accessor has no rate for that.
function collect.read_samples(project, order, pause)
  local item = list_items(project, { what = "items", guids = { order.guid } }, {}, pause)[1]
  local take = item and reaper.GetActiveTake(item)
  if not take then return { ok = false, reason = "missing", text = "the item to listen to is gone" } end
  local rate = order.rate * reaper.GetMediaItemTakeInfo_Value(take, "D_PLAYRATE")
  local whole = math.floor(rate + 0.5)
  if whole < 1 or math.abs(rate - whole) > WHOLE then return { samples = json.array() } end
  local accessor = reaper.CreateTakeAudioAccessor(take)
  local is_read, samples = pcall(read_blocks, project, item, take, accessor, whole, order, pause)
  reaper.DestroyAudioAccessor(accessor)
  if not is_read then error(samples, 0) end
  return { samples = json.raw(samples) }
end

return collect
