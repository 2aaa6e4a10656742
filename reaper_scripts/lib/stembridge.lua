-- @noindex
-- Stembridge in REAPER: sends notes, carries out orders, shows how far they are. Decides nothing.

local root = ...

local function load_module(name, ...)
  return assert(loadfile(root .. "/lib/" .. name .. ".lua"))(...)
end

local json = load_module("json")
local files = load_module("files", json)
local collect = load_module("collect", json)
local apply = load_module("apply", json, collect)
local panel = load_module("panel")

local stembridge = {}

local VERSION = 1
local SECTION = "stembridge"
local RUNNING, ENDED = 1, 0
local PART_S = 0.010
-- While REAPER plays (1) or records (4), the daemon hears of it this often: it counts on that, and gives way.
local PING_S, IS_BUSY = 0.5, 1 | 4
local MAX_FAILURES = 100
local MAX_FIELDS = 16

local Script = {}
Script.__index = Script

-- Notes wait in `notes`, one at a time is `sent`; orders wait in `orders`, one with parts is `part`.
local function new_script(config)
  return setmetatable({
    config = config,
    route = files.open_route(config, files.name_session()),
    notes = {}, orders = {}, waits = {}, threads = {},
    peaks = apply.queue_peaks(),
    window = panel.new_window(),
    view = { line = "Stembridge", rows = {}, lines = {}, asked = {} },
    failures = 0,
    ping_at = 0,
  }, Script)
end

-- ExtState: what scripts of both languages share.

local function read_memory()
  local is_read, memory = pcall(json.decode, reaper.GetExtState(SECTION, "memory"))
  return is_read and json.is_object(memory) and memory or {}
end

local function remember(key, value)
  local memory = read_memory()
  memory[key] = value
  reaper.SetExtState(SECTION, "memory", json.encode(memory), true)
end

-- Notes.

local function is_open(project)
  return project ~= nil and reaper.ValidatePtr2(0, project, "ReaProject*")
end

local function enter_project(thread)
  thread.project = reaper.EnumProjects(-1)
  thread.moment = collect.keep_moment(thread.project)
end

-- A thread is what one note of the user sets going; it belongs to the project, the selection and the cursor of
-- that moment: by the time the daemon answers, the user may have gone on to the next items.
local function begin_thread()
  local thread = {}
  enter_project(thread)
  return thread
end

local function queue_note(script, thread, note)
  table.insert(script.notes, { thread = thread, note = note })
end

local function read_host(thread)
  local active = reaper.EnumProjects(-1)
  local project = is_open(thread.project) and thread.project or active
  local play = reaper.GetPlayStateEx(project)
  -- A recording counts in whichever tab it runs.
  if active ~= project then play = play | reaper.GetPlayStateEx(active) end
  return {
    play = play,
    cursor = thread.moment.host.cursor,
    time_selection = thread.moment.host.time_selection,
    project = collect.find_project_path(project) or "",
  }
end

local function resume(script, thread, order, result)
  if order["then"] == nil then return end
  queue_note(script, thread, { say = "resume", ["then"] = order["then"], with = order.with, result = result or {} })
end

local function tell(script, text, is_error)
  table.insert(script.view.lines, { text = text, is_error = is_error })
  if is_error and script.is_hidden then script.has_unseen = true end
  if script.is_hidden then script.unseen_line = text end
  script.is_wanted = true
end

local function without_nulls(shown)
  local plain = {}
  for name, value in pairs(shown) do
    if value ~= json.null then plain[name] = value end
  end
  return plain
end

-- The threads for which there is something to do, the one whose order is under way first.
local function list_going(script)
  local threads = { script.part and script.part.entry.thread }
  for _, entry in ipairs(script.notes) do threads[#threads + 1] = entry.thread end
  for _, entry in ipairs(script.orders) do threads[#threads + 1] = entry.thread end
  for _, wait in ipairs(script.waits) do threads[#threads + 1] = wait.entry.thread end
  return threads
end

local function is_going(script, thread)
  for _, each in ipairs(list_going(script)) do
    if each == thread then return true end
  end
  return false
end

-- One list of what all threads have said last: each knows of its own rows alone. What is over makes room when
-- something new begins.
local function take_panel(script, thread, shown)
  if not thread.shown then
    local going = {}
    for _, each in ipairs(script.threads) do
      if is_going(script, each) then table.insert(going, each) end
    end
    table.insert(going, thread)
    script.threads = going
  end
  thread.shown = without_nulls(shown)
  local view, asked, is_running = script.view, {}, false
  local eta_s, done, parts
  view.rows, view.line = {}, thread.shown.line
  for _, each in ipairs(script.threads) do
    local rows = each.shown.rows or {}
    local weight = math.max(#rows, 1)
    if each.shown.eta_s then eta_s = (eta_s or 0) + each.shown.eta_s end
    if each.shown.fraction then
      done, parts = (done or 0) + each.shown.fraction * weight, (parts or 0) + weight
    end
    for _, row in ipairs(rows) do
      local plain = without_nulls(row)
      table.insert(view.rows, plain)
      if not panel.is_ended(plain) then
        is_running = true
        asked[plain.id] = view.asked[plain.id]
      end
    end
  end
  view.eta_s, view.fraction = eta_s, done and done / parts
  view.asked, view.is_all_asked = asked, view.is_all_asked and is_running
  if #view.rows > 0 then script.is_wanted = true end
end

local function take_reply(script, thread, reply)
  local failure = reply.error
  if json.is_object(failure) then
    local hint = type(failure.hint) == "string" and failure.hint ~= "" and (" (" .. failure.hint .. ")") or ""
    tell(script, tostring(failure.message or failure.code) .. hint, true)
    return
  end
  if json.is_object(reply.panel) then take_panel(script, thread, reply.panel) end
  if not json.is_array(reply.orders) then return end
  for _, order in ipairs(reply.orders) do table.insert(script.orders, { thread = thread, order = order }) end
end

local function send(script, entry, host, now)
  local note = entry.note
  note.v, note.script = VERSION, "lua " .. tostring(script.config.version)
  note.host, note.memory = host, read_memory()
  script.route:send(json.encode(note), now)
  script.sent, script.ping_at = entry, now + PING_S
end

-- Say that REAPER plays or records while there is nothing else to say.
local function ping(script, now)
  local thread = list_going(script)[1]
  if not thread or now < script.ping_at then return end
  local host = read_host(thread)
  if host.play & IS_BUSY ~= 0 then send(script, { thread = thread, note = { say = "ping" } }, host, now) end
end

-- Whether all that was selected has its GUID: as many are read as a tick has room for.
local function name_selected(thread)
  local stop = reaper.time_precise() + PART_S
  while collect.name_next(thread.project, thread.moment) do
    if reaper.time_precise() >= stop then return false end
  end
  return true
end

local function send_next(script, now)
  local entry = script.notes[1]
  if not entry or not name_selected(entry.thread) then return ping(script, now) end
  table.remove(script.notes, 1)
  send(script, entry, read_host(entry.thread), now)
end

local function notify(script, text)
  script.view.notice, script.is_wanted = text, true
end

local function exchange(script, now)
  if not script.sent then return send_next(script, now) end
  local reply, trouble = script.route:poll(now)
  if trouble then notify(script, trouble) end
  if reply then
    local sent = script.sent
    script.sent = nil
    if sent.note.say ~= "ping" then take_reply(script, sent.thread, reply) end
  end
end

-- Orders.

local CARRY_OUT = {}

local function split_lines(text, count)
  local values = json.array()
  for line in (text .. "\n"):gmatch("(.-)\n") do
    if #values < count then values[#values + 1] = line end
  end
  return values
end

local function flatten(texts, forbidden)
  local flat = {}
  for index, text in ipairs(texts or {}) do
    if index <= MAX_FIELDS then flat[index] = tostring(text):gsub(forbidden, " ") end
  end
  return flat
end

local function ask_fields(order)
  local captions, values = flatten(order.captions, "[,%c]+"), flatten(order.values, "%c+")
  local count = #captions
  captions[count + 1] = "extrawidth=120"
  captions[count + 2] = "separator=\n"
  local is_answered, text =
    reaper.GetUserInputs(order.title, count, table.concat(captions, ","), table.concat(values, "\n"))
  if not is_answered then return { answer = "cancel", values = json.array() } end
  return { answer = "yes", values = split_lines(text, count) }
end

local BOXES = { yes_no = 4, yes_no_cancel = 3 }
local ANSWERS = { [6] = "yes", [7] = "no" }

local function ask(order)
  if order.kind == "fields" then return ask_fields(order) end
  if order.kind == "file" then
    local path = type(order.path) == "string" and order.path or ""
    local is_answered, chosen = reaper.GetUserFileNameForRead(path, order.title, "")
    if not is_answered then return { answer = "cancel", values = json.array() } end
    return { answer = "yes", values = json.array({ chosen }) }
  end
  local box = BOXES[order.kind] or error("nothing is known of asking " .. tostring(order.kind), 0)
  return { answer = ANSWERS[reaper.MB(order.text, order.title, box)] or "cancel", values = json.array() }
end

function CARRY_OUT.ask(_, _, order)
  return ask(order)
end

function CARRY_OUT.tell(script, _, order)
  tell(script, order.text, order.is_error == true)
end

function CARRY_OUT.remember(_, _, order)
  remember(order.key, order.value)
end

function CARRY_OUT.play(_, thread, order)
  if order.on then reaper.OnPlayButtonEx(thread.project) else reaper.OnStopButtonEx(thread.project) end
  return {}
end

function CARRY_OUT.undo(_, thread, order)
  local is_ours = reaper.Undo_CanUndo2(thread.project) == order.label
  return { done = is_ours and reaper.Undo_DoUndo2(thread.project) ~= 0 }
end

local TAB_COMMANDS = { [40859] = true, [40860] = true }

function CARRY_OUT.apply(script, thread, order)
  local result, peaks = apply.run(order, thread.project)
  script.peaks:add(peaks)
  for _, operation in ipairs(result.ok and order.ops or {}) do
    if operation[1] == "command" and TAB_COMMANDS[operation[2]] then enter_project(thread) end
  end
  return result
end

local IN_PARTS = { collect = collect.read_snapshot, listen = collect.read_samples }

-- What comes of an order whose project was closed; the others end their thread.
local CLOSED = { apply = apply.CLOSED, play = {}, undo = { done = false } }
local ANYWHERE = { ask = true, tell = true, remember = true, wait = true }

local function finish(script, entry, result)
  script.current = nil
  resume(script, entry.thread, entry.order, result)
end

local function end_closed(script, entry)
  local result = CLOSED[entry.order["do"]]
  if result then return finish(script, entry, result) end
  script.current = nil
  tell(script, "the project was closed before it was read", true)
end

local function begin_part(script, entry)
  local read, thread = IN_PARTS[entry.order["do"]], entry.thread
  local function pause()
    if reaper.time_precise() >= script.part_until then coroutine.yield() end
  end
  script.part = { entry = entry, run = coroutine.create(function() return read(thread.project, entry.order, pause, thread.moment) end) }
end

local function advance_part(script)
  local part = script.part
  script.current = part.entry
  if not is_open(part.entry.thread.project) then
    script.part = nil
    return end_closed(script, part.entry)
  end
  script.part_until = reaper.time_precise() + PART_S
  local is_running, result, lines = coroutine.resume(part.run)
  if is_running and coroutine.status(part.run) ~= "dead" then
    script.current = nil
    return
  end
  script.part = nil
  if not is_running then error(result, 0) end
  for _, line in ipairs(lines or {}) do tell(script, line, true) end
  finish(script, part.entry, result)
end

local function carry_out(script, entry, now)
  local order, thread = entry.order, entry.thread
  local name = order["do"]
  script.current = entry
  local act = CARRY_OUT[name]
  if name == "wait" then
    script.current = nil
    table.insert(script.waits, { due = now + order.seconds, entry = entry })
  elseif not (act or IN_PARTS[name]) then
    error("this script knows no order called " .. tostring(name) .. " (stembridge reaper install)", 0)
  elseif not ANYWHERE[name] and not is_open(thread.project) then
    end_closed(script, entry)
  elseif IN_PARTS[name] then
    begin_part(script, entry)
    advance_part(script)
  else
    finish(script, entry, act(script, thread, order))
  end
end

-- The first order that can be carried out now; one that waits for its tab holds up its own thread alone.
local function take_order(script)
  local held = {}
  for index, entry in ipairs(script.orders) do
    local thread, order = entry.thread, entry.order
    if not held[thread] then
      local is_held = order["do"] == "apply" and is_open(thread.project)
        and not apply.is_ready(order, thread.project)
      if not is_held then return table.remove(script.orders, index) end
      held[thread] = true
      notify(script, "Stems are placed when their project's tab is in front again.")
    end
  end
  return nil
end

local function end_waits(script, now)
  local waits = {}
  for _, wait in ipairs(script.waits) do
    if wait.due <= now then
      resume(script, wait.entry.thread, wait.entry.order, {})
    else
      waits[#waits + 1] = wait
    end
  end
  script.waits = waits
end

local function build_peaks(script)
  local stop = reaper.time_precise() + PART_S
  repeat script.peaks:advance() until script.peaks:is_empty() or reaper.time_precise() >= stop
end

local function work(script, now)
  end_waits(script, now)
  if script.part then return advance_part(script) end
  local entry = take_order(script)
  if entry then return carry_out(script, entry, now) end
  if not script.peaks:is_empty() then build_peaks(script) end
end

-- The user.

local function list_ids(rows)
  local ids = json.array()
  for index, row in ipairs(rows) do ids[index] = row.id end
  return ids
end

local function cancel(script, row)
  local view = script.view
  for _, shown in ipairs(view.rows) do
    if row == "all" or row == shown.id then view.asked[shown.id] = true end
  end
  view.is_all_asked = view.is_all_asked or row == "all"
  queue_note(script, begin_thread(), { say = "cancel", row = row, rows = list_ids(view.rows) })
end

local function is_busy(script)
  return #script.notes > 0 or #script.orders > 0 or #script.waits > 0 or script.sent ~= nil or script.part ~= nil
    or not script.peaks:is_empty()
end

local function show(script)
  local window = script.window
  if script.is_wanted and not script.is_hidden and not window.is_open then
    window:open()
    script.unseen_line = nil
  end
  if not window.is_open then return end
  script.view.is_busy = is_busy(script)
  local done = window:show(script.view)
  if not done then return end
  if done.action == "hide" then
    window:close()
    script.is_hidden = true
  else
    cancel(script, done.action == "cancel_all" and "all" or done.row)
  end
end

local function start_action(script, action)
  if not is_busy(script) then script.view.lines = {} end
  script.is_hidden, script.is_wanted = false, script.window.is_open
  queue_note(script, begin_thread(), { say = "act", action = action })
end

local function empty_inbox(script)
  local waiting = reaper.GetExtState(SECTION, "inbox")
  if waiting == "" then return end
  reaper.DeleteExtState(SECTION, "inbox", false)
  for action in waiting:gmatch("[^,]+") do start_action(script, action) end
end

-- What came of it, and what went wrong, while nobody was looking.
local function report_unseen(script)
  if script.unseen_line then reaper.Help_Set("Stembridge: " .. script.unseen_line, false) end
  if not script.has_unseen then return end
  local lines = { "Stembridge" }
  for _, line in ipairs(script.view.lines) do lines[#lines + 1] = "  " .. line.text end
  reaper.ShowConsoleMsg(table.concat(lines, "\n") .. "\n")
end

local function tick(script)
  local now = reaper.time_precise()
  script.view.notice = nil
  empty_inbox(script)
  exchange(script, now)
  work(script, now)
  show(script)
  script.failures = 0
end

-- Stems still land where the window is what failed.
local function say_failure(script, failure)
  script.failures = script.failures + 1
  script.is_hidden = true
  pcall(script.window.close, script.window)
  if script.has_failed then return end
  script.has_failed = true
  reaper.ShowConsoleMsg("Stembridge: " .. tostring(failure) .. "\n")
end

-- An order that failed is said; one to change the project is answered, so that a batch goes on without it.
local function end_failed_order(script, failure)
  local entry = script.current
  if not entry then return say_failure(script, failure) end
  local text = tostring(failure)
  if entry.order["do"] == "apply" then return finish(script, entry, { ok = false, reason = "error", at = 0, text = text }) end
  script.current = nil
  tell(script, text, true)
end

local function loop(script)
  local is_done, failure = pcall(tick, script)
  if not is_done then end_failed_order(script, failure) end
  if script.failures >= MAX_FAILURES or not (is_busy(script) or script.window.is_open) then
    report_unseen(script)
    return
  end
  reaper.defer(function() loop(script) end)
end

local function leave(script)
  script.window:close()
  script.route:close()
end

-- Carry out the actions that wait, and those that come while any is under way. The command's toggle state says
-- that this runs: it lights the toolbar button too.
function stembridge.run(section, command)
  local path = root .. "/stembridge_config.json"
  local config = files.read_object(path)
  if not config then
    reaper.DeleteExtState(SECTION, "inbox", false)
    reaper.ShowConsoleMsg(
      ("Stembridge is not set up: there is no %s.\n  pip install stembridge\n  stembridge reaper install\n"):format(path)
    )
    reaper.defer(function() end) -- or REAPER makes an undo step for having run this
    return
  end
  local script = new_script(config)
  reaper.SetToggleCommandState(section, command, RUNNING)
  reaper.atexit(function()
    reaper.SetToggleCommandState(section, command, ENDED)
    leave(script)
  end)
  loop(script)
end

return stembridge
