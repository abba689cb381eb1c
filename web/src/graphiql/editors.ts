/** How the editors behave, beyond what GraphiQL sets. */
import { type MonacoEditor, useGraphiQL } from "@graphiql/react";
import { useEffect } from "react";

const OPTIONS = {
  // A comment or a prompt that runs out of the editor teaches nobody.
  wordWrap: "on",
  // Where the schema has nothing to suggest, arbitrary words of the text only look as if it had.
  wordBasedSuggestions: "off",
  // A dash or a Cyrillic letter in a prompt or a description is no attempt to disguise code.
  unicodeHighlight: { ambiguousCharacters: false },
} as const;

export function useEditorOptions(): void {
  const editors = useGraphiQL((state) => ({
    query: state.queryEditor,
    variables: state.variableEditor,
    response: state.responseEditor,
  }));
  useOptions(editors.query);
  useOptions(editors.variables);
  useOptions(editors.response);
}

function useOptions(editor: MonacoEditor | undefined): void {
  useEffect(() => editor?.updateOptions(OPTIONS), [editor]);
}
