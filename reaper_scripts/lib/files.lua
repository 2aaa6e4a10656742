-- @noindex
-- The file route: notes go out by one rename, a courier that reads them is started and started again.

local json = ...

local files = {}

local READ_EVERY_S = 0.05
local ASK_AGAIN_S = 10.0
-- A courier leaves when it has had nothing to carry for a minute. One more than needed leaves by itself.
local QUIET_S = 45.0

local Route = {}
Route.__index = Route

local function read_whole(path)
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read("a")
  file:close()
  return text
end

-- Read a file that holds one JSON object; nil where there is none (yet).
function files.read_object(path)
  local text = read_whole(path)
  if not text then return nil end
  local is_read, value = pcall(json.decode, text)
  return is_read and json.is_object(value) and value or nil
end

-- A folder name that no other script uses.
function files.name_session()
  return ("%08x%08x"):format(math.random(0, 0xffffffff), math.random(0, 0xffffffff))
end

-- The route of one script; nothing is written and nothing started before the first note.
function files.open_route(config, session)
  local folder = config.work_dir .. "/" .. session
  return setmetatable({
    cli = config.cli,
    folder = folder,
    request = folder .. "/request.json",
    status = folder .. "/status.json",
    is_windows = reaper.GetOS():sub(1, 3) == "Win",
    count = 0,
  }, Route)
end

local function write_whole(path, text)
  local file, reason = io.open(path, "wb")
  if not file then return nil, reason end
  local is_written, failure = file:write(text)
  local is_closed, failure_at_end = file:close()
  if not (is_written and is_closed) then return nil, failure or failure_at_end end
  return true
end

-- On Windows nothing is renamed below a folder whose name is not of the system's code page, as a user's may be.
-- What a courier reads half written is no JSON yet, and it looks again.
local function write_request(route)
  local temporary = route.request .. ".tmp"
  local is_written, reason = write_whole(temporary, route.text)
  if not is_written then return nil, reason end
  if route.is_windows then os.remove(route.request) end
  return os.rename(temporary, route.request) or write_whole(route.request, route.text)
end

local function start_courier(route, now)
  route.courier_at = now
  local command = ('"%s" reaper run --request "%s" --status "%s"'):format(route.cli, route.request, route.status)
  reaper.ExecProcess(command, -1)
end

-- Write the note out as far as that goes now; a file that is held open by its reader is tried again.
local function bring_out(route, now)
  local is_out, reason = write_request(route)
  if not is_out then
    reaper.RecursiveCreateDirectory(route.folder, 0)
    is_out, reason = write_request(route)
  end
  if not is_out then
    route.trouble = ("could not write %s: %s"):format(route.request, reason)
    return
  end
  route.is_out, route.trouble = true, nil
  if not route.courier_at then start_courier(route, now) end
end

-- Take a note (JSON text) on its way; the one before has been answered.
function Route:send(note, now)
  self.count = self.count + 1
  self.text = ('{"n":%d,"note":%s}'):format(self.count, note)
  self.is_out, self.asked_at, self.read_at = false, now, now
  bring_out(self, now)
  if self.is_out and now - math.max(self.courier_at, self.heard_at or 0) >= QUIET_S then start_courier(self, now) end
end

-- The reply to the note under way, or nil; and what is wrong where nothing has come for long.
function Route:poll(now)
  if now - self.read_at >= READ_EVERY_S then
    self.read_at = now
    if not self.is_out then bring_out(self, now) end
    local status = files.read_object(self.status)
    if status and status.n == self.count and json.is_object(status.reply) then
      self.trouble, self.heard_at = nil, now
      return status.reply
    end
  end
  if self.is_out and now - math.max(self.asked_at, self.courier_at) >= ASK_AGAIN_S then
    self.trouble = ("no answer from %s for %d s: trying again"):format(self.cli, math.floor(now - self.asked_at))
    start_courier(self, now)
  end
  return nil, self.trouble
end

-- Take the files away; a courier that still looks for them ends.
function Route:close()
  for _, path in ipairs({ self.request .. ".tmp", self.request, self.status, self.folder }) do os.remove(path) end
end

return files
