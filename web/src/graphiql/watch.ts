/** "Watch this task": opens the subscription tab with the task's id filled in, and runs it. */
import { useGraphiQL, useGraphiQLActions } from "@graphiql/react";
import { useCallback, useEffect, useState } from "react";
import { WATCH } from "../tabs";

const WATCHES_A_TASK = /\bsubscription\b[^{]*\$id\b[\s\S]*\btaskEvents\b/;
const DEFAULT_NAME = "Watch";
const PATIENCE_MS = 2_000;

export function useWatch(): (task: string) => void {
  const { tabs, activeTabIndex, operationName, queryEditor, variableEditor } = useGraphiQL((state) => ({
    tabs: state.tabs,
    activeTabIndex: state.activeTabIndex,
    operationName: state.operationName,
    queryEditor: state.queryEditor,
    variableEditor: state.variableEditor,
  }));
  const { addTab, changeTab, run, stop } = useGraphiQLActions();
  /** Name of the operation to run as soon as GraphiQL has read it, which is a moment after its tab has opened. */
  const [awaited, setAwaited] = useState<string | null>(null);

  useEffect(() => {
    if (awaited === null) return;
    if (operationName === awaited) {
      setAwaited(null);
      run();
      return;
    }
    // The tab may hold a half-written operation, which never gets its name: then the id is filled in and that is all.
    const giveUp = setTimeout(() => setAwaited(null), PATIENCE_MS);
    return () => clearTimeout(giveUp);
  }, [awaited, operationName, run]);

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
      setAwaited(tabs[index]?.operationName ?? DEFAULT_NAME);
    },
    [tabs, activeTabIndex, queryEditor, variableEditor, addTab, changeTab, stop],
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
