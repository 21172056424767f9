// The peer that is a server with its SDK for Node: a Restate service whose handler is a run of four recorded steps.
//
//     node restate_runs.cjs PORT
//
// The SDK wants a function that Node has from version 22 on.
Promise.withResolvers ??= () => {
  let resolve, reject;
  const promise = new Promise((...both) => ([resolve, reject] = both));
  return { promise, resolve, reject };
};
const restate = require("@restatedev/restate-sdk");

const runs = restate.service({
  name: "runs",
  handlers: {
    four: async (context, { n }) => {
      for (const step of ["one", "two", "three", "four"]) n = await context.run(step, () => n + 1);
      return { n };
    },
  },
});
restate.serve({ services: [runs], port: Number(process.argv[2]), logger: () => {} });
