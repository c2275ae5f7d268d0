// The gRPC interoperability cases, called by @grpc/grpc-js at the address in argv[2], with the authority's
// certificate in argv[3] if the port speaks TLS. Prints one JSON object: what each case came to.
"use strict";
const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");

const same = (bytes) => bytes;
const method = (path, requestStream, responseStream) => ({
  path, requestStream, responseStream,
  requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same,
});
const Client = grpc.makeGenericClientConstructor({
  unary: method("/t.T/Unary", false, false),
  fail: method("/t.T/Fail", false, false),
  sleep: method("/t.T/Sleep", false, false),
  special: method("/t.T/Special", false, false),
  missing: method("/t.T/Missing", false, false),
  stranger: method("/no.Such/Service", false, false),
  count: method("/t.T/Count", false, true),
  sum: method("/t.T/Sum", true, false),
  echo: method("/t.T/Echo", true, true),
});
const credentials = process.argv[3]
  ? grpc.credentials.createSsl(fs.readFileSync(process.argv[3]))
  : grpc.credentials.createInsecure();
const client = new Client(process.argv[2], credentials, {
  "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1,
});

// What a caller is told: the payload's length and text, or the status; and the metadata that the service echoes.
const told = (error, value) => error
  ? {code: error.code, details: error.details, why: error.metadata.get("x-why"), bin: error.metadata.get("grpc-status-details-bin").map(String)}
  : {size: value.length, text: value.length < 100 ? value.toString() : ""};
const echoed = (metadata) => [...metadata.get("x-twice"), ...metadata.get("x-data-bin").map((b) => b.toString("hex"))];

const unary = (name, request, metadata = new grpc.Metadata(), options = {}) => new Promise((resolve) => {
  const outcome = {};
  const call = client[name](request, metadata, options, (error, value) => { Object.assign(outcome, told(error, value)); });
  call.on("metadata", (initial) => { outcome.initial = echoed(initial); });
  call.on("status", (status) => { outcome.trailing = [...echoed(status.metadata), ...status.metadata.get("x-trailing-bin").map((b) => b.toString("hex"))]; resolve(outcome); });
});

const streamed = (call, onMessage = () => {}) => new Promise((resolve) => {
  const messages = [];
  call.on("data", (message) => { messages.push(message.length < 100 ? message.toString() : message.length); onMessage(messages.length); });
  call.on("error", () => {});
  call.on("status", (status) => resolve({code: status.code, messages}));
});

const cases = {
  emptyUnary: () => unary("unary", Buffer.alloc(0)),
  largeUnary: () => unary("unary", Buffer.alloc(314159)),
  concurrentLargeUnary: async () => (await Promise.all(Array.from({length: 20}, () => unary("unary", Buffer.alloc(300000))))).map((each) => each.size),
  serverStreaming: () => streamed(client.count(Buffer.from("50"))),
  clientStreaming: () => new Promise((resolve) => {
    const call = client.sum((error, value) => resolve(told(error, value)));
    for (const size of [27182, 8, 1828, 45904]) call.write(Buffer.alloc(size));
    call.end();
  }),
  pingPong: () => {
    const call = client.echo();
    const sizes = [31415, 9, 2653, 58979];
    call.write(Buffer.alloc(sizes[0]));
    return streamed(call, (count) => count < sizes.length ? call.write(Buffer.alloc(sizes[count])) : call.end());
  },
  emptyStream: () => { const call = client.echo(); call.end(); return streamed(call); },
  customMetadata: () => {
    const metadata = new grpc.Metadata();
    metadata.add("x-twice", "1");
    metadata.add("x-twice", "2");
    metadata.add("x-data-bin", Buffer.from([0xab, 0xab, 0xab, 0x00]));
    return unary("unary", Buffer.from("m"), metadata);
  },
  statusCodeAndMessage: () => unary("fail", Buffer.from("2")),
  specialStatusMessage: () => unary("special", Buffer.alloc(0)),
  unimplementedMethod: () => unary("missing", Buffer.alloc(0)),
  unimplementedService: () => unary("stranger", Buffer.alloc(0)),
  cancelAfterBegin: () => new Promise((resolve) => {
    const call = client.sum((error) => resolve({code: error.code}));
    setImmediate(() => call.cancel());
  }),
  cancelAfterFirstResponse: () => {
    const call = client.echo();
    call.write(Buffer.from("first"));
    return streamed(call, () => call.cancel());
  },
  timeoutOnSleepingServer: async () => {
    const outcome = await unary("sleep", Buffer.alloc(0), undefined, {deadline: Date.now() + 300});
    return {code: outcome.code};
  },
};

(async () => {
  const outcomes = {};
  for (const [name, run] of Object.entries(cases)) outcomes[name] = await run();
  client.close();
  process.stdout.write(JSON.stringify(outcomes));
})();
