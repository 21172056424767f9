# Four calls to the counter of Anna: 5, refused, still 5, and 0 once its alarm has rung.
KEY=${KEY:-$(cat .tenure/dev-key)}
ANNA=${API:-http://127.0.0.1:7101}/v1/objects/counter/anna

curl -s "$ANNA/add" -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
  -d '{"amount": 5, "reset_after_ms": 2000}'

curl -s "$ANNA/add" -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' \
  -d '{"amount": 96}'

curl -s -X POST "$ANNA/read" -H "Authorization: Bearer $KEY"

sleep 3
curl -s -X POST "$ANNA/read" -H "Authorization: Bearer $KEY"
