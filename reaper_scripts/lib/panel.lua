-- @noindex
-- The window: what runs, how far it is, what was said; and the buttons to cancel. Closing it stops nothing.

local panel = {}

local WIDTH, HEIGHT, MAX_HEIGHT = 460, 200, 440
local MARGIN, HEADER, NOTICE, FOOTER = 14, 52, 18, 44
local ROW, LINE, CROSS, BUTTON_WIDTH, BUTTON_HEIGHT = 34, 17, 18, 84, 26
local MAX_WRAPPED = 6
local SECTION, KEY = "stembridge", "window"

-- Its own background under its own text: readable beside any theme.
local COLORS = {
  back = { 0.16, 0.17, 0.18 }, raised = { 0.20, 0.21, 0.22 }, track = { 0.29, 0.30, 0.32 },
  button = { 0.28, 0.29, 0.31 }, hover = { 0.36, 0.38, 0.41 }, text = { 0.91, 0.92, 0.92 },
  dim = { 0.62, 0.64, 0.66 }, accent = { 0.31, 0.66, 0.96 }, good = { 0.42, 0.78, 0.47 },
  bad = { 0.97, 0.46, 0.42 }, warn = { 0.95, 0.73, 0.33 },
}
local STATE_COLORS = {
  waiting = "dim", running = "accent", placing = "accent", done = "good", failed = "bad",
  cancelled = "dim", skipped = "warn",
}
local ENDED = { done = true, failed = true, cancelled = true, skipped = true }
local FONTS = { title = 1, body = 2, small = 3 }

-- Seconds as a person says them.
function panel.format_time(seconds)
  local whole = math.max(0, math.floor(seconds + 0.5))
  if whole < 60 then return whole .. " s" end
  if whole < 3600 then return ("%d:%02d min"):format(whole // 60, whole % 60) end
  return ("%d h %02d min"):format(whole // 3600, whole % 3600 // 60)
end

-- Whether a row can still be cancelled.
function panel.is_ended(row)
  return ENDED[row.state] or false
end

local function flatten(text)
  return (tostring(text or ""):gsub("%c+", " "))
end

local function clamp(value, low, high)
  return math.max(low, math.min(high, value))
end

-- The longest beginning of the text that fits, with an ellipsis where something is left out.
function panel.fit(text, width, measure)
  text = flatten(text)
  if measure(text) <= width then return text end
  local low, high = 0, utf8.len(text) or 0
  while low < high do
    local middle = (low + high + 1) // 2
    if measure(text:sub(1, utf8.offset(text, middle + 1) - 1) .. "…") <= width then low = middle else high = middle - 1 end
  end
  return low == 0 and "" or text:sub(1, utf8.offset(text, low + 1) - 1) .. "…"
end

-- The text in lines that fit; what does not go into the last one is cut there.
function panel.wrap(text, width, measure)
  local lines, rest = {}, flatten(text)
  while #lines < MAX_WRAPPED - 1 and measure(rest) > width do
    local cut
    for stop in rest:gmatch("()%s") do
      if measure(rest:sub(1, stop - 1)) > width then break end
      cut = stop
    end
    if not cut then break end
    lines[#lines + 1] = rest:sub(1, cut - 1)
    rest = rest:sub(cut + 1)
  end
  lines[#lines + 1] = panel.fit(rest, width, measure)
  return lines
end

local Page = {}
Page.__index = Page

local function begin_page(width, height, scale, measure)
  return setmetatable({ width = width, height = height, scale = scale, measure = measure, shapes = {}, areas = {} }, Page)
end

function Page:box(x, y, w, h, color)
  if w > 0 and h > 0 then self.shapes[#self.shapes + 1] = { kind = "box", x = x, y = y, w = w, h = h, color = color } end
end

function Page:text(x, y, w, text, font, color, is_right)
  if w <= 0 then return 0 end
  local function measure(part) return self.measure(FONTS[font], part) end
  local fitted = panel.fit(text, w, measure)
  local used = math.min(w, measure(fitted))
  local left = is_right and x + w - used or x
  if fitted ~= "" then
    self.shapes[#self.shapes + 1] =
      { kind = "text", x = left, y = y, w = used, text = fitted, font = FONTS[font], color = color }
  end
  return used
end

function Page:bar(x, y, w, h, fraction, color)
  self:box(x, y, w, h, "track")
  self:box(x, y, math.floor(w * clamp(fraction or 0, 0, 1) + 0.5), h, color)
end

function Page:area(x, y, w, h, action, row)
  self.areas[#self.areas + 1] = { x = x, y = y, w = w, h = h, action = action, row = row }
end

local function describe_state(row, is_asked)
  if is_asked and not ENDED[row.state] then return "cancelling" end
  local word = flatten(row.state)
  if row.state == "running" and row.fraction then word = ("%s %d %%"):format(word, math.floor(row.fraction * 100)) end
  if not ENDED[row.state] and row.eta_s then word = word .. "  " .. panel.format_time(row.eta_s) end
  return word
end

local function draw_row(page, row, y, is_asked, right)
  local unit = page.scale
  local left, color = MARGIN * unit, STATE_COLORS[row.state] or "dim"
  local cross = CROSS * unit
  local state_width = page:text(left, y + 4 * unit, right - left - cross, describe_state(row, is_asked), "small", color, true)
  local room = right - left - cross - state_width - 12 * unit
  local name_width = page:text(left, y + 3 * unit, row.text and room * 0.6 or room, row.label, "body", "text")
  page:text(left + name_width + 10 * unit, y + 4 * unit, room - name_width - 10 * unit, row.text, "small", "dim")
  local fraction = row.state == "done" and 1 or row.fraction
  page:bar(left, y + 23 * unit, right - left, 3 * unit, fraction, color)
  if not ENDED[row.state] and not is_asked then
    page:text(right - cross, y + 3 * unit, cross, "×", "body", "dim", true)
    page:area(right - cross, y, cross, 22 * unit, "cancel", row.id)
  end
end

local function wrap_lines(page, lines, width)
  local wrapped = {}
  local function measure(part) return page.measure(FONTS.small, part) end
  for _, line in ipairs(lines) do
    for _, part in ipairs(panel.wrap(line.text, width, measure)) do
      wrapped[#wrapped + 1] = { text = part, color = line.is_error and "bad" or "dim" }
    end
  end
  return wrapped
end

local function draw_list(page, view, top, bottom, scroll)
  local unit = page.scale
  local right = page.width - MARGIN * unit
  local wrapped = wrap_lines(page, view.lines, right - MARGIN * unit)
  local row_height, line_height = ROW * unit, LINE * unit
  local gap = #view.rows > 0 and #wrapped > 0 and 6 * unit or 0
  page.content = #view.rows * row_height + gap + #wrapped * line_height
  page.max_scroll = math.max(0, page.content - (bottom - top))
  page.scroll = clamp(scroll, 0, page.max_scroll)
  if page.max_scroll > 0 then
    local share = (bottom - top) / page.content
    local length = math.max(20 * unit, (bottom - top) * share)
    local at = top + (bottom - top - length) * page.scroll / page.max_scroll
    page:box(page.width - 6 * unit, at, 3 * unit, length, "track")
  end
  local y = top - page.scroll
  for _, row in ipairs(view.rows) do
    if y + row_height > top and y < bottom then draw_row(page, row, y, view.asked[row.id], right) end
    y = y + row_height
  end
  y = y + gap
  for _, line in ipairs(wrapped) do
    if y + line_height > top and y < bottom then
      page:text(MARGIN * unit, y, right - MARGIN * unit, line.text, "small", line.color)
    end
    y = y + line_height
  end
end

local function draw_header(page, view)
  local unit = page.scale
  local left, right = MARGIN * unit, page.width - MARGIN * unit
  page:box(0, 0, page.width, page.top, "raised")
  local time = view.is_busy and view.eta_s and panel.format_time(view.eta_s) .. " left" or ""
  local time_width = page:text(left, 12 * unit, right - left, time, "small", "dim", true)
  page:text(left, 10 * unit, right - left - time_width - 10 * unit, view.line, "title", "text")
  page:bar(left, 34 * unit, right - left, 6 * unit, view.fraction, "accent")
  if view.notice then page:text(left, 45 * unit, right - left, view.notice, "small", "warn") end
end

local function button_width(page)
  return math.max(1, math.min(BUTTON_WIDTH * page.scale, page.width / 2 - MARGIN * page.scale))
end

local function draw_button(page, right, label, action, mouse)
  local unit = page.scale
  local w, h = button_width(page), BUTTON_HEIGHT * unit
  local x, y = right - w, page.height - (FOOTER - 9) * unit
  local is_over = mouse and mouse.x >= x and mouse.x < x + w and mouse.y >= y and mouse.y < y + h
  page:box(x, y, w, h, is_over and "hover" or "button")
  local text_width = math.min(w, page.measure(FONTS.small, label))
  page:text(x + (w - text_width) / 2, y + 6 * unit, text_width, label, "small", "text")
  page:area(x, y, w, h, action)
  return math.max(0, x - 8 * unit)
end

local function count_ended(rows)
  local count = 0
  for _, row in ipairs(rows) do
    if ENDED[row.state] then count = count + 1 end
  end
  return count
end

local function draw_footer(page, view, mouse)
  local unit = page.scale
  page:box(0, page.bottom, page.width, page.height - page.bottom, "raised")
  local ended = count_ended(view.rows)
  local right = draw_button(page, page.width - MARGIN * unit, view.is_busy and "Hide" or "Close", "hide", mouse)
  if ended < #view.rows then
    if view.is_all_asked then
      local w = math.min(right, button_width(page))
      page:text(right - w, page.height - (FOOTER - 15) * unit, w, "cancelling", "small", "dim", true)
      right = right - w
    else
      right = draw_button(page, right, "Cancel all", "cancel_all", mouse)
    end
  end
  if #view.rows > 0 then
    local summary = ("%d of %d"):format(ended, #view.rows)
    page:text(MARGIN * unit, page.height - (FOOTER - 15) * unit, right - MARGIN * unit, summary, "small", "dim")
  end
end

-- What is to be drawn and where the mouse does what; `measure(font, text)` is a width. The list comes first:
-- what sticks out of it lies under header and footer.
function panel.arrange(view, width, height, scale, measure, scroll, mouse)
  local page = begin_page(width, height, scale, measure)
  page.top = (HEADER + (view.notice and NOTICE or 0)) * scale
  page.bottom = height - FOOTER * scale
  page:box(0, 0, width, height, "back")
  draw_list(page, view, page.top + 6 * scale, page.bottom, scroll)
  local inside = {}
  for _, area in ipairs(page.areas) do
    if area.y >= page.top and area.y + area.h <= page.bottom then inside[#inside + 1] = area end
  end
  page.areas = inside
  draw_header(page, view)
  draw_footer(page, view, mouse)
  page.wanted_height = clamp(page.top + page.content + (FOOTER + 12) * scale, HEIGHT * scale, MAX_HEIGHT * scale)
  return page
end

-- Draw an arranged page.
function panel.paint(page)
  for _, shape in ipairs(page.shapes) do
    local color = COLORS[shape.color]
    gfx.set(color[1], color[2], color[3], 1)
    if shape.kind == "box" then
      gfx.rect(math.floor(shape.x), math.floor(shape.y), math.ceil(shape.w), math.ceil(shape.h), 1)
    else
      gfx.setfont(shape.font)
      gfx.x, gfx.y = math.floor(shape.x), math.floor(shape.y)
      gfx.drawstr(shape.text)
    end
  end
end

local Window = {}
Window.__index = Window

-- The window of one script, not yet open.
function panel.new_window()
  return setmetatable({ is_open = false, scroll = 0, is_mac = reaper.GetOS():find("^OSX") or reaper.GetOS():find("^macOS") }, Window)
end

-- Dock state, place and size of the last time; nothing of a place that is none.
local function read_place()
  local numbers = {}
  for digits in reaper.GetExtState(SECTION, KEY):gmatch("-?%d+") do numbers[#numbers + 1] = math.tointeger(digits) end
  local dock, x, y, w, h = table.unpack(numbers)
  if h and w >= 100 and h >= 100 then return dock, w, h, x, y end
  return dock
end

function Window:open()
  local dock, w, h, x, y = read_place()
  gfx.ext_retina = 1
  if w then
    gfx.init("Stembridge", w, h, dock, x, y)
  else
    gfx.init("Stembridge", WIDTH, HEIGHT, dock or 0)
  end
  self.is_open, self.is_new = true, not w
  self.scale, self.pressed, self.grown, self.was_down = nil, nil, nil, false
end

-- Remember where it stands and take it away.
function Window:close()
  if not self.is_open then return end
  local dock, x, y, w, h = gfx.dock(-1, 0, 0, 0, 0)
  if h then
    local place = ("%.0f %.0f %.0f %.0f %.0f"):format(dock, x, y, w, h)
    reaper.SetExtState(SECTION, KEY, place, true)
  end
  gfx.quit()
  self.is_open = false
end

local function choose_fonts(scale)
  local system = reaper.GetOS()
  local face = system:find("^Win") and "Segoe UI" or system:find("^Other") and "DejaVu Sans" or "Helvetica Neue"
  gfx.setfont(FONTS.title, face, math.floor(16 * scale + 0.5), ("b"):byte())
  gfx.setfont(FONTS.body, face, math.floor(15 * scale + 0.5))
  gfx.setfont(FONTS.small, face, math.floor(13 * scale + 0.5))
end

local function measure_text(font, text)
  gfx.setfont(font)
  return (gfx.measurestr(text))
end

-- macOS counts a window's size in points and draws in pixels; elsewhere both are pixels.
local function resize(window, width, height)
  local ratio = window.is_mac and window.scale or 1
  gfx.init("", math.floor(width / ratio + 0.5), math.floor(height / ratio + 0.5))
end

local function follow_scale(window)
  local scale = math.max(1, gfx.ext_retina)
  if scale == window.scale then return end
  window.scale = scale
  choose_fonts(scale)
  if window.is_new and scale > 1 then resize(window, WIDTH * scale, HEIGHT * scale) end
end

-- The window grows with its rows, unless the user has given it another size or docked it.
local function grow(window, page)
  if gfx.dock(-1) & 1 == 1 then return end
  local start = HEIGHT * window.scale
  local is_ours = math.abs(gfx.h - (window.grown or start)) <= 1 or not window.grown and gfx.h < start
  if is_ours and page.wanted_height > gfx.h + 1 then
    resize(window, gfx.w, page.wanted_height)
    window.grown = page.wanted_height
  end
end

local function find_area(page, x, y)
  for _, area in ipairs(page.areas) do
    if x >= area.x and x < area.x + area.w and y >= area.y and y < area.y + area.h then return area end
  end
  return nil
end

-- A click counts where button and finger part on the area on which they met.
local function read_click(window, page)
  local is_down = gfx.mouse_cap & 1 == 1
  local area = find_area(page, gfx.mouse_x, gfx.mouse_y)
  local clicked
  if is_down and not window.was_down then
    window.pressed = area
  elseif not is_down and window.was_down then
    local pressed = window.pressed
    if pressed and area and pressed.action == area.action and pressed.row == area.row then clicked = area end
    window.pressed = nil
  end
  window.was_down = is_down
  return clicked
end

local ESCAPE = 27

-- Draw the view; returns what the user did: {action = "hide" | "cancel" | "cancel_all", row}, or nil.
function Window:show(view)
  local key = gfx.getchar()
  if key == -1 or key == ESCAPE then return { action = "hide" } end
  follow_scale(self)
  if gfx.mouse_wheel ~= 0 then
    self.scroll = self.scroll - gfx.mouse_wheel / 120 * ROW * self.scale
    gfx.mouse_wheel = 0
  end
  local mouse = { x = gfx.mouse_x, y = gfx.mouse_y }
  local page = panel.arrange(view, gfx.w, gfx.h, self.scale, measure_text, self.scroll, mouse)
  self.scroll = page.scroll
  panel.paint(page)
  gfx.update()
  grow(self, page)
  return read_click(self, page)
end

return panel
