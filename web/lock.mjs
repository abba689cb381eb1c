// After `npm install --package-lock-only`: drops what a lock file may say but nobody needs to build: where to give money and
// deprecation remarks. Both hold addresses, and the lock file is to hold none, so that it reads the same behind any mirror.
import { readFileSync, writeFileSync } from "node:fs";

const file = new URL("package-lock.json", import.meta.url);
const lock = JSON.parse(readFileSync(file, "utf8"));
for (const entry of Object.values(lock.packages)) {
  delete entry.resolved;
  delete entry.funding;
  delete entry.deprecated;
}
writeFileSync(file, `${JSON.stringify(lock, null, 2)}\n`);
