-- @noindex
-- JSON, strictly: what is not JSON is refused with its place, doubles travel with 17 significant digits.

local json = {}

local MAX_DEPTH = 128
local ARRAY, RAW = {}, {}

-- Stands for JSON's null, which a Lua table cannot hold.
json.null = setmetatable({}, { __tostring = function() return "null" end })

-- A table that is written as an array, also while it is empty.
function json.array(values)
  return setmetatable(values or {}, ARRAY)
end

function json.is_array(value)
  return getmetatable(value) == ARRAY
end

-- Whether a decoded value is an object.
function json.is_object(value)
  return type(value) == "table" and value ~= json.null and not json.is_array(value)
end

-- Text that is JSON already.
function json.raw(text)
  return setmetatable({ text }, RAW)
end

-- The text as UTF-8: every byte that is none becomes "?".
function json.clean(text)
  local length, bad = utf8.len(text)
  if length then return text end
  local parts, from = {}, 1
  while not length do
    parts[#parts + 1] = text:sub(from, bad - 1)
    from = bad + 1
    length, bad = utf8.len(text, from)
  end
  return table.concat(parts, "?") .. "?" .. text:sub(from)
end

local ESCAPES = {
  ['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t",
}

local function escape(char)
  return ESCAPES[char] or ("\\u%04x"):format(char:byte())
end

local function encode_text(text)
  return '"' .. json.clean(text):gsub('[%c"\\]', escape) .. '"'
end

local function encode_number(value)
  if math.type(value) == "integer" then return ("%d"):format(value) end
  if value ~= value or value == math.huge or value == -math.huge then
    error("JSON has no number " .. tostring(value), 0)
  end
  return ("%.17g"):format(value)
end

local encode_value

local function encode_table(value, depth)
  if depth > MAX_DEPTH then error("more than " .. MAX_DEPTH .. " levels do not go into JSON", 0) end
  local parts = {}
  if json.is_array(value) then
    for index = 1, #value do parts[index] = encode_value(value[index], depth) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  local keys = {}
  for key in pairs(value) do
    if type(key) ~= "string" then error("a JSON object has no key " .. tostring(key), 0) end
    keys[#keys + 1] = key
  end
  table.sort(keys)
  for index, key in ipairs(keys) do
    parts[index] = encode_text(key) .. ":" .. encode_value(value[key], depth)
  end
  return "{" .. table.concat(parts, ",") .. "}"
end

function encode_value(value, depth)
  local kind = type(value)
  if value == json.null then return "null" end
  if kind == "string" then return encode_text(value) end
  if kind == "number" then return encode_number(value) end
  if kind == "boolean" then return tostring(value) end
  if kind ~= "table" then error("a " .. kind .. " does not go into JSON", 0) end
  if getmetatable(value) == RAW then return value[1] end
  return encode_table(value, depth + 1)
end

-- The value as JSON text: a table made by json.array as an array, any other as an object.
function json.encode(value)
  return encode_value(value, 0)
end

local function refuse(at, what)
  error(("JSON: %s at byte %d"):format(what, at), 0)
end

local function skip_space(text, at)
  return text:find("[^ \t\r\n]", at) or #text + 1
end

local UNESCAPES = {
  ['"'] = '"', ["\\"] = "\\", ["/"] = "/", b = "\b", f = "\f", n = "\n", r = "\r", t = "\t",
}

local function decode_unit(text, at)
  local digits = text:match("^\\u(%x%x%x%x)", at)
  if not digits then refuse(at, "four hex digits expected after \\u") end
  return tonumber(digits, 16)
end

-- The character of a \u escape and the byte after it; two escapes are one character above U+FFFF.
local function decode_escape(text, at)
  local unit = decode_unit(text, at)
  if unit < 0xD800 or unit > 0xDFFF then return utf8.char(unit), at + 6 end
  if unit > 0xDBFF or text:sub(at + 6, at + 7) ~= "\\u" then refuse(at, "half a surrogate pair") end
  local low = decode_unit(text, at + 6)
  if low < 0xDC00 or low > 0xDFFF then refuse(at, "half a surrogate pair") end
  return utf8.char(0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)), at + 12
end

local function decode_text(text, at)
  local parts, from = {}, at + 1
  while true do
    local stop = text:find('[%c"\\]', from)
    if not stop then refuse(at, "a text without an end") end
    parts[#parts + 1] = text:sub(from, stop - 1)
    local char = text:sub(stop, stop)
    if char == '"' then return table.concat(parts), stop + 1 end
    if char == "\\" then
      local letter = text:sub(stop + 1, stop + 1)
      if letter == "u" then
        parts[#parts + 1], from = decode_escape(text, stop)
      else
        parts[#parts + 1] = UNESCAPES[letter] or refuse(stop, "no such escape \\" .. letter)
        from = stop + 2
      end
    elseif char == "\127" then
      parts[#parts + 1], from = char, stop + 1
    else
      refuse(stop, "a control character in a text")
    end
  end
end

local function decode_number(text, at)
  local whole, stop = text:match("^(-?%d+)()", at)
  if not whole or whole:find("^-?0%d") then refuse(at, "no number") end
  local fraction, past = text:match("^(%.%d+)()", stop)
  local exponent, last = text:match("^([eE][+-]?%d+)()", past or stop)
  local digits = whole .. (fraction or "") .. (exponent or "")
  return tonumber(digits), last or past or stop
end

local WORDS = { t = { "true", true }, f = { "false", false }, n = { "null", json.null } }

local decode_value

local function decode_array(text, at, depth)
  local values = json.array()
  at = skip_space(text, at + 1)
  if text:sub(at, at) == "]" then return values, at + 1 end
  while true do
    values[#values + 1], at = decode_value(text, at, depth)
    at = skip_space(text, at)
    local char = text:sub(at, at)
    if char == "]" then return values, at + 1 end
    if char ~= "," then refuse(at, "',' or ']' expected") end
    at = skip_space(text, at + 1)
  end
end

local function decode_object(text, at, depth)
  local values = {}
  at = skip_space(text, at + 1)
  if text:sub(at, at) == "}" then return values, at + 1 end
  while true do
    if text:sub(at, at) ~= '"' then refuse(at, "a key in quotes expected") end
    local key
    key, at = decode_text(text, at)
    at = skip_space(text, at)
    if text:sub(at, at) ~= ":" then refuse(at, "':' expected") end
    values[key], at = decode_value(text, skip_space(text, at + 1), depth)
    at = skip_space(text, at)
    local char = text:sub(at, at)
    if char == "}" then return values, at + 1 end
    if char ~= "," then refuse(at, "',' or '}' expected") end
    at = skip_space(text, at + 1)
  end
end

function decode_value(text, at, depth)
  local char = text:sub(at, at)
  if char == '"' then return decode_text(text, at) end
  if char == "{" or char == "[" then
    if depth >= MAX_DEPTH then refuse(at, "more than " .. MAX_DEPTH .. " levels") end
    return (char == "{" and decode_object or decode_array)(text, at, depth + 1)
  end
  local word = WORDS[char]
  if word and text:sub(at, at + #word[1] - 1) == word[1] then return word[2], at + #word[1] end
  if char:find("[-%d]") then return decode_number(text, at) end
  refuse(at, at > #text and "the text ends too soon" or "a value expected")
end

-- The value of a JSON text; arrays are marked as json.array does, null is json.null.
function json.decode(text)
  local length, bad = utf8.len(text)
  if not length then refuse(bad, "no UTF-8") end
  local value, at = decode_value(text, skip_space(text, 1), 0)
  at = skip_space(text, at)
  if at <= #text then refuse(at, "more text than one value") end
  return value
end

return json
