-- Lets a request go on to the application if Tenure says who its user is, and tells the application in X-Session- fields.
-- A user who is not signed in gets Tenure's answer; where Tenure does not answer, nobody is let in.

local WHOAMI = "http://127.0.0.1:7103/v1/whoami"
local WAIT_MS = 6000 -- Whoami takes 5 s at most. HAProxy asks three times more; from 2.8 on, `httpclient.retries 0` spares that.
local REQUIRE_ACR = nil -- Or "aal2 aal3", where being signed in is not enough.
local TOLD = {"principal", "id", "tenant", "acr", "amr", "roles", "auth-time", "expires", "actor"}
local PASSED = {"content-type", "www-authenticate", "cache-control"}

-- Every line of a field, so that a token that is sent twice is seen twice.
local function lines(headers, name)
  local found, index = {}, 0
  while headers[name] and headers[name][index] do
    found[#found + 1] = headers[name][index]
    index = index + 1
  end
  return found
end

core.register_action("whoami", {"http-req"}, function(txn)
  local sent, asked = txn.http:req_get_headers(), {}
  for _, name in ipairs({"authorization", "cookie"}) do
    local values = lines(sent, name)
    if #values > 0 then asked[name] = values end
  end
  if REQUIRE_ACR then asked["x-require-acr"] = {REQUIRE_ACR} end
  local answer = core.httpclient():get{url = WHOAMI, headers = asked, timeout = WAIT_MS}
  if answer and answer.status == 200 then
    for _, name in ipairs(TOLD) do
      txn.http:req_set_header("X-Session-" .. name, lines(answer.headers, "x-session-" .. name)[1] or "-")
    end
    return
  end
  local denied = answer and answer.status == 401
  local reply = txn:reply{status = denied and 401 or 503}
  if denied then
    for _, name in ipairs(PASSED) do
      for _, value in ipairs(lines(answer.headers, name)) do reply:add_header(name, value) end
    end
    reply:set_body(answer.body)
  end
  txn:done(reply)
end)
