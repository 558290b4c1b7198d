-- Counting inside nginx as API gateways on OpenResty do it exactly: one script call in Redis for each request, over a pooled
-- connection. Loaded once (init_by_lua); `admit` runs in the access phase. Debian packages resty.redis as nginx.redis.
local found, redis = pcall(require, "resty.redis")
if not found then redis = require "nginx.redis" end

local M = {orgs = {}}

local function read(path)
    local file = assert(io.open(path))
    local text = file:read("*a")
    file:close()
    return text
end

function M.load(orgs, script, socket)
    for key, org in read(orgs):gmatch("(%S+) (%S+)") do M.orgs[key] = org end
    M.script, M.socket = read(script), "unix:" .. socket
end

local function evalsha(red, org)
    if not M.sha then M.sha = assert(red:script("LOAD", M.script)) end
    return red:evalsha(M.sha, 2, "quota:" .. org, "usage", 1, 1000000000000, org, 3600000)
end

function M.admit()
    local org = M.orgs[ngx.var.http_x_api_key or ""]
    if not org then return ngx.exit(401) end
    local red = redis:new()
    red:set_timeout(1000)
    local ok, err = red:connect(M.socket)
    if not ok then ngx.log(ngx.ERR, err) return ngx.exit(503) end
    local answer, failed = evalsha(red, org)
    if not answer then ngx.log(ngx.ERR, failed) return ngx.exit(503) end
    red:set_keepalive(60000, 64)
    if answer[1] == 0 then return ngx.exit(429) end
    ngx.header["X-RateLimit-Remaining"] = 1000000000000 - answer[2]
    ngx.req.set_header("X-Org-Id", org)
end

return M
