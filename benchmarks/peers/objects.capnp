# One worker with one class of Durable Objects; {{...}} is filled in by benchmarks/peers/workerd.py.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "main", worker = .objects),
    (name = "disk", disk = (path = "{{folder}}", writable = true)),
  ],
  sockets = [(name = "http", address = "127.0.0.1:{{port}}", http = (), service = "main")],
);

const objects :Workerd.Worker = (
  modules = [(name = "main", esModule = embed "main.js")],
  compatibilityDate = "2026-11-17",
  durableObjectNamespaces = [(className = "{{class}}", uniqueKey = "benchmark", enableSql = true)],
  durableObjectStorage = ({{storage}}),
  bindings = [(name = "OBJECTS", durableObjectNamespace = "{{class}}")],
);
