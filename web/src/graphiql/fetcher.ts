/** Carries GraphiQL's operations to the server: subscriptions over one websocket, everything else over HTTP. */
import type { Fetcher, FetcherParams, Observable } from "@graphiql/toolkit";
import { type ExecutionResult, Kind, type OperationDefinitionNode, type OperationTypeNode, parse } from "graphql";
import type { Client } from "graphql-ws";
import type { Exposures } from "./exposures";

export function createFetcher(url: URL, socket: Client, exposures: Exposures): Fetcher {
  return (request, options) => {
    const tab = exposures.activeTab;
    const [operation, kind] = named(request);
    if (kind === "subscription") return overSocket(socket, operation, exposures, tab);
    if (operation.operationName === "IntrospectionQuery") return overHttp(url, operation, options?.headers);
    return observed(overHttp(url, operation, options?.headers), exposures, tab);
  };
}

async function observed(answer: Promise<ExecutionResult>, exposures: Exposures, tab: string): Promise<ExecutionResult> {
  exposures.begin(tab, false);
  try {
    const result = await answer;
    exposures.result(tab, result.data);
    return result;
  } finally {
    exposures.end(tab);
  }
}

async function overHttp(url: URL, operation: FetcherParams, headers: Record<string, string> = {}): Promise<ExecutionResult> {
  const answer = await fetch(url, {
    method: "POST",
    headers: { accept: "application/graphql-response+json, application/json;q=0.9", "content-type": "application/json", ...headers },
    body: JSON.stringify(operation),
  }).catch((error: unknown) => {
    throw new Error(`${url.href} does not answer (${String(error)}). Is Darkroom still running?`);
  });
  const text = await answer.text();
  try {
    return JSON.parse(text) as ExecutionResult;
  } catch {
    const kind = answer.headers.get("content-type") ?? "nothing";
    throw new Error(`${url.href} answered ${answer.status} with ${kind} instead of JSON: ${text.slice(0, 300)}`);
  }
}

function overSocket(socket: Client, operation: FetcherParams, exposures: Exposures, tab: string): Observable<ExecutionResult> {
  const subscribe = (sink: Sink) => {
    // Letting go of a subscription completes it a moment later; GraphiQL would take that for the end of the next one.
    let letGo = false;
    exposures.begin(tab, true);
    const unsubscribe = socket.subscribe<Record<string, unknown>>(
      { ...operation, operationName: operation.operationName ?? null },
      {
        next(result) {
          if (letGo) return;
          exposures.message(tab, result.data);
          sink.next(result as ExecutionResult);
        },
        error(error) {
          exposures.end(tab);
          if (!letGo) sink.error(explained(error));
        },
        complete() {
          if (letGo) return;
          exposures.end(tab);
          sink.complete();
        },
      },
    );
    return {
      unsubscribe() {
        letGo = true;
        exposures.end(tab);
        unsubscribe();
      },
    };
  };
  return { subscribe } as Observable<ExecutionResult>;
}

interface Sink {
  next(value: ExecutionResult): void;
  error(error: unknown): void;
  complete(): void;
}

function explained(error: unknown): unknown {
  if (!(error instanceof CloseEvent)) return error;
  const reason = error.reason ? `: ${error.reason}` : "";
  return new Error(`The websocket was closed with code ${error.code}${reason}. Run the subscription again: it replays what you missed.`);
}

/**
 * The request with the name of an operation that is in it, and that operation's kind. For a moment after one has changed to
 * another tab, GraphiQL still sends the name of the operation in the tab before; whoever is quick would get an error.
 */
function named(request: FetcherParams): [FetcherParams, OperationTypeNode | null] {
  let operations: OperationDefinitionNode[];
  try {
    operations = parse(request.query).definitions.filter((definition) => definition.kind === Kind.OPERATION_DEFINITION);
  } catch {
    return [request, null]; // A syntax error: the server's answer says where.
  }
  const [only, ...others] = operations;
  const meant = operations.find((operation) => operation.name?.value === request.operationName) ?? (others.length === 0 ? only : undefined);
  return meant ? [{ ...request, operationName: meant.name?.value ?? null }, meant.operation] : [request, null];
}
