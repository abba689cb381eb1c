/**
 * The operations that GraphiQL opens with. They are plain files, so that the server's own tests can check each of them
 * against the schema: what a newcomer sees first must run.
 */
import history from "./history.graphql?raw";
import providers from "./providers.graphql?raw";
import start from "./start.graphql?raw";
import startVariables from "./start.variables.json?raw";
import watch from "./watch.graphql?raw";
import watchVariables from "./watch.variables.json?raw";

export interface ReadyTab {
  query: string;
  variables: string;
}

export const START: ReadyTab = { query: start, variables: startVariables.trim() };
export const WATCH: ReadyTab = { query: watch, variables: watchVariables.trim() };

export const READY_TABS: ReadyTab[] = [
  START,
  WATCH,
  { query: history, variables: "" },
  { query: providers, variables: "" },
];
