// graphql-ws on ws, with the same schema and the same events. Run in a folder where they are installed:
//   node node.mjs SCHEMA TASKS
// The same control socket as the Python servers.
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { createServer as createHTTPServer } from "node:http";
import { randomBytes } from "node:crypto";
import { buildSchema } from "graphql";
import { useServer } from "graphql-ws/use/ws";
import { WebSocketServer } from "ws";

const [schemaFile, count] = process.argv.slice(2);
const schema = buildSchema(readFileSync(schemaFile, "utf8"));

class Topic {
  readers = new Set();
  sequence = 1;
  publish(event) {
    for (const reader of this.readers) reader.push(event);
  }
  async *events() {
    const waiting = [];
    let wake;
    const reader = {
      push(event) {
        waiting.push(event);
        wake?.();
      },
    };
    this.readers.add(reader);
    try {
      for (;;) {
        if (!waiting.length) await new Promise((resolve) => (wake = resolve));
        yield waiting.shift();
      }
    } finally {
      this.readers.delete(reader);
    }
  }
}

const idOf = (number) =>
  Buffer.from("Task:" + number.toString(16).padStart(32, "0"))
    .toString("base64url");
const topics = Array.from({ length: Number(count) }, () => new Topic());
const numbers = new Map(topics.map((_, number) => [idOf(number), number]));
schema.getSubscriptionType().getFields().taskEvents.subscribe = (_, { id }) => topics[numbers.get(id)].events();

const dataUri = "data:image/png;base64," + randomBytes(75000).toString("base64");
function event(number, picture) {
  const topic = topics[number];
  const common = {
    sequence: ++topic.sequence,
    at: new Date().toISOString(),
    task: { id: idOf(number), name: String(process.hrtime.bigint()), status: "RUNNING" },
  };
  topic.publish({
    taskEvents: picture
      ? { __typename: "PartialImageReady", ...common, index: 0, partialImageIndex: 0, image: { width: 256, height: 97, dataUri } }
      : { __typename: "TaskProgressed", ...common, progress: { fraction: 0.5, origin: "ESTIMATED" } },
  });
}

const http = createHTTPServer();
useServer({ schema }, new WebSocketServer({ server: http, path: "/graphql" }));
const control = createServer((socket) => {
  let text = "";
  socket.on("data", (chunk) => {
    const lines = (text + chunk).split("\n");
    text = lines.pop();
    for (const line of lines) {
      const [command, first, last] = line.split(" ");
      if (command === "N") socket.write(topics.reduce((sum, topic) => sum + topic.readers.size, 0) + "\n");
      else for (let number = Number(first); number < Number(last); number++) event(number, command === "I");
    }
  });
  socket.on("error", () => {});
});
http.listen(0, "127.0.0.1", 4096, () =>
  control.listen(0, "127.0.0.1", () =>
    console.log(http.address().port, control.address().port, "-"),
  ),
);
