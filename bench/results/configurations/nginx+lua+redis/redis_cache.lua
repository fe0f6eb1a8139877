-- A cache-aside in Redis: GET of the key; on a miss a fetch from the origin, and SET with the time to live that Cache-Control allows.
-- A key is scheme://host/URI. Its value is one string, so that a hit is one round trip and three calls of the socket's receive; HMGET of a head and a
-- body would take seven. It is lines: the status, then name and value of each field, an empty line; and then the body.
--
-- Guides: [lua] README of lua-nginx-module, [redis] README of lua-resty-redis.

local redis = require "nginx.redis"         -- [redis] resty.redis of OpenResty
local ngx, null = ngx, ngx.null             -- [lua] "Lua Variable Scope": locals, which take no look into tables
local var, header, get_method = ngx.var, ngx.header, ngx.req.get_method
local find, sub, lower, match = string.find, string.sub, string.lower, string.match
local concat, pairs, tonumber, type = table.concat, pairs, tonumber, type

local _M = {}

local HOST, PORT = "127.0.0.1", REDISPORT

-- [lua] "Data sharing within an nginx worker": there is one worker, so a local of the module is its counter.
local hits = 0

function _M.hits() return hits end

-- command runs one command of Redis on a connection of the pool. Without Redis it returns nil, and the origin answers.
local function command(name, ...)
    local red = redis:new()                 -- [redis] one for each request: an instance in the module would be shared by all of them
    local ok, err = red:connect(HOST, PORT) -- [redis] looks in the pool first; an address needs no resolver
    if not ok then
        ngx.log(ngx.ERR, "connect to Redis: ", err)
        return nil
    end
    local reply, err = red[name](red, ...)
    if not reply then
        ngx.log(ngx.ERR, name, ": ", err)
        red:close()                         -- [redis] what is broken does not go to the pool
        return nil
    end
    red:set_keepalive()                     -- [redis] back to the pool at once, before the answer is written; its size is in nginx.conf
    return reply
end

-- answer writes what is stored.
local function answer(stored)
    local at = find(stored, "\n", 1, true)  -- LuaJIT compiles plain finds, and not gmatch (its list "NYI")
    ngx.status = tonumber(sub(stored, 1, at - 1))
    while true do
        local colon = find(stored, "\n", at + 1, true)
        if colon == at + 1 then             -- the empty line
            at = colon
            break
        end
        local stop = find(stored, "\n", colon + 1, true)
        header[sub(stored, at + 1, colon - 1)] = sub(stored, colon + 1, stop - 1)
        at = stop
    end
    header["Content-Length"] = #stored - at -- or it would be chunked
    header["X-Cache"] = "HIT"
    ngx.print(sub(stored, at + 1))          -- [lua] one call: each is a run of the output filters
end

local storable = {[200] = true, [301] = true, [404] = true}
local own = {["content-length"] = true, ["transfer-encoding"] = true, ["connection"] = true, ["date"] = true, ["server"] = true} -- nginx's

-- lifetime is for how many seconds a response may be kept, nil for not at all.
local function lifetime(response)
    local fields = response.header
    local control = fields["Cache-Control"]
    if type(control) == "table" then
        control = concat(control, ",")
    end
    if not control or not storable[response.status] or response.truncated or fields["Set-Cookie"] or fields["Vary"] or var.http_authorization then
        return nil
    end
    control = lower(control)
    if find(control, "no-store", 1, true) or find(control, "no-cache", 1, true) or find(control, "private", 1, true) then
        return nil
    end
    local seconds = tonumber(match(control, "s%-maxage=(%d+)") or match(control, "max%-age=(%d+)"))
    return seconds and seconds > 0 and seconds or nil
end

-- pack is a response as it is stored.
local function pack(response)
    local lines, n = {response.status, "\n"}, 2
    for name, value in pairs(response.header) do
        if not own[lower(name)] then
            lines[n + 1], lines[n + 2] = name, "\n"
            lines[n + 3], lines[n + 4] = type(value) == "table" and concat(value, ", ") or value, "\n"
            n = n + 4
        end
    end
    lines[n + 1], lines[n + 2] = "\n", response.body
    return concat(lines)                    -- [lua] once, not string by string
end

-- miss has the origin answer, and stores what may be.
local function miss(key)
    local response = ngx.location.capture("/_fetch") -- [lua] a subrequest, GET by default, on connections that nginx keeps
    if response.truncated then
        return ngx.exit(502)
    end
    local seconds = lifetime(response)
    if seconds then
        command("set", key, pack(response), "EX", seconds)
    end
    ngx.status = response.status
    for name, value in pairs(response.header) do
        if not own[lower(name)] then
            header[name] = value
        end
    end
    header["Content-Length"] = #response.body
    header["X-Cache"] = "MISS"
    ngx.print(response.body)
end

function _M.serve()
    local method = get_method()
    if method ~= "GET" and method ~= "HEAD" then -- nginx leaves the body of an answer to HEAD out
        return ngx.exec("@pass")
    end
    local key = var.cache_key
    local stored = command("get", key)
    if not stored or stored == null then
        return miss(key)
    end
    hits = hits + 1
    return answer(stored)
end

return _M
