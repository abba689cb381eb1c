/** How the editors behave, beyond what GraphiQL sets. */
import { useGraphiQL } from "@graphiql/react";
import { useEffect } from "react";

const OPTIONS = {
  // A comment or a prompt that runs out of the editor teaches nobody.
  wordWrap: "on",
  // Where the schema has nothing to suggest, arbitrary words of the text only look as if it had.
  wordBasedSuggestions: "off",
} as const;

export function useEditorOptions(): void {
  const { queryEditor, variableEditor } = useGraphiQL((state) => ({
    queryEditor: state.queryEditor,
    variableEditor: state.variableEditor,
  }));
  useEffect(() => queryEditor?.updateOptions(OPTIONS), [queryEditor]);
  useEffect(() => variableEditor?.updateOptions(OPTIONS), [variableEditor]);
}
