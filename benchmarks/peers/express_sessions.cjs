// The peer of whoami from Node: express-session with connect-redis, sessions in a Redis-protocol server.
//
//     node express_sessions.cjs PORT SOCKET
//
// `/login` begins a session of the user named in its query, `/v1/whoami` answers who the cookie's session belongs to, and
// 401 where there is none. Set up as the packages' pages show it: sessions live for a day from their last use, which
// their store is told at every request.
const express = require("express");
const session = require("express-session");
const { RedisStore } = require("connect-redis");
const { createClient } = require("redis");

const [port, path] = process.argv.slice(2);
const client = createClient({ socket: { path } });
const app = express();
app.disable("etag");
app.disable("x-powered-by");
app.get("/", (request, response) => response.send("ready"));
app.use(
  session({
    store: new RedisStore({ client, ttl: 86_400 }),
    secret: "a secret of the benchmark",
    resave: false,
    saveUninitialized: false,
  }),
);
app.get("/login", (request, response) => {
  request.session.user = { principal: request.query.principal, acr: "aal1", amr: ["pwd"], roles: ["editor"] };
  response.sendStatus(204);
});
app.get("/v1/whoami", (request, response) => {
  const { user } = request.session;
  response.status(user ? 200 : 401).json(user ?? { status: 401 });
});
client.connect().then(() => app.listen(Number(port), "127.0.0.1"));
