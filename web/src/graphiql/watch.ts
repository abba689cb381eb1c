/** "Watch this task": opens the subscription tab with the task's id filled in, and runs it. */
import { useGraphiQL, useGraphiQLActions } from "@graphiql/react";
import { useCallback } from "react";
import { WATCH } from "../tabs";

const WATCHES_A_TASK = /\bsubscription\b[^{]*\$id\b[\s\S]*\btaskEvents\b/;

export function useWatch(): (task: string) => void {
  const { tabs, activeTabIndex, queryEditor, variableEditor } = useGraphiQL((state) => ({
    tabs: state.tabs,
    activeTabIndex: state.activeTabIndex,
    queryEditor: state.queryEditor,
    variableEditor: state.variableEditor,
  }));
  const { addTab, changeTab, run, stop } = useGraphiQLActions();
  return useCallback(
    (task: string) => {
      stop();
      const isWatch = (index: number) => WATCHES_A_TASK.test(tabs[index]?.query ?? "");
      const index = isWatch(activeTabIndex) ? activeTabIndex : tabs.findIndex((_, position) => isWatch(position));
      if (index < 0) {
        addTab();
        queryEditor?.setValue(WATCH.query);
      } else if (index !== activeTabIndex) {
        changeTab(index);
      }
      variableEditor?.setValue(withId(tabs[index]?.variables, task));
      run();
    },
    [tabs, activeTabIndex, queryEditor, variableEditor, addTab, changeTab, run, stop],
  );
}

/** The tab's variables with this id, so that others that somebody added there stay. */
function withId(variables: string | null | undefined, id: string): string {
  let others: unknown = null;
  try {
    others = JSON.parse(variables || "{}");
  } catch {
    // Half-typed variables: replace them.
  }
  return JSON.stringify({ ...(others as object | null), id }, null, 2);
}
