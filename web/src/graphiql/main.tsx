/** The page at /graphql: GraphiQL with Darkroom's operations ready to run, and a panel that shows their pictures. */
import "graphiql/setup-workers/vite";
import "graphiql/style.css";
import "./page.css";
import { createLocalStorage } from "@graphiql/toolkit";
import { GraphiQL } from "graphiql";
import { createClient } from "graphql-ws";
import { createRoot } from "react-dom/client";
import { READY_TABS, START } from "../tabs";
import { Exposures } from "./exposures";
import { createFetcher } from "./fetcher";
import { DarkroomPanel } from "./panel";

const api = new URL("/graphql", location.href);
const socketUrl = new URL(api);
socketUrl.protocol = api.protocol === "https:" ? "wss:" : "ws:";

const exposures = new Exposures();
// One client for the whole page: it opens its socket with the first subscription and shares it among all. A socket that is lost,
// as when the server restarts, comes back by itself; the server then replays the task's events, and the panel knows which it has.
const socket = createClient({
  url: socketUrl.href,
  lazy: true,
  keepAlive: 10_000,
  retryAttempts: Number.POSITIVE_INFINITY,
  retryWait: (attempt) => new Promise((resume) => setTimeout(resume, Math.min(500 * 2 ** attempt, 5_000))),
  on: {
    connecting: (again) => (exposures.reconnecting = again),
    connected: () => (exposures.reconnecting = false),
  },
});
const fetcher = createFetcher(api, socket, exposures);

// A namespace of its own: another GraphiQL on the same address, as during development, keeps its own tabs.
const storage = createLocalStorage({ namespace: "darkroom" });
if (storage.getItem("graphiql:tabState") === null) {
  // On a first visit GraphiQL opens the ready tabs, but fills the variables of the first one only from here.
  storage.setItem("graphiql:query", START.query);
  storage.setItem("graphiql:variables", START.variables);
  // An operation and its variables share a column 3 : 1; these variables need a little more to be seen whole.
  storage.setItem("graphiql:secondaryEditorFlex", "1.7");
}

function Page() {
  return (
    <GraphiQL
      fetcher={fetcher}
      storage={storage}
      onTabChange={({ tabs, activeTabIndex }) => (exposures.activeTab = tabs[activeTabIndex]?.id ?? "")}
      defaultTabs={READY_TABS}
      defaultEditorToolsVisibility="variables"
      inputValueDeprecation
      schemaDescription
    >
      <GraphiQL.Logo>
        <span className="darkroom-logo">
          <img src={`${import.meta.env.BASE_URL}favicon.svg`} alt="" width="22" height="22" /> Darkroom
        </span>
      </GraphiQL.Logo>
      <GraphiQL.Footer>
        <DarkroomPanel exposures={exposures} />
      </GraphiQL.Footer>
    </GraphiQL>
  );
}

const place = document.getElementById("graphiql");
if (place === null) throw new Error("The page has no element with the id graphiql.");
createRoot(place).render(<Page />);
