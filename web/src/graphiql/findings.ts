/**
 * Reads GraphQL results without knowing the operation: somebody may have rewritten it, asked for fewer fields or used aliases.
 * So everything here recognises things by their shape, and what it does not recognise it leaves alone.
 */

export interface Picture {
  url: string;
  /** Width divided by height, where the result told both. */
  ratio: number | null;
}

export interface TaskFound {
  id: string;
  number: number | null;
  status: string | null;
  prompt: string | null;
  pictures: Picture[];
}

/** One entry of a task's event log, as far as the operation selected it. */
export interface TaskEvent {
  type: string | null;
  sequence: number | null;
  status: string | null;
  fraction: number | null;
  estimated: boolean;
  /** Which of the task's pictures this is about, counted from 0. */
  index: number;
  /** Which partial image of it, counted from 0; null for a finished picture. */
  partial: number | null;
  picture: Picture | null;
  failure: string | null;
  /** Something worth knowing that is no failure, such as why the task waits. */
  remark: string | null;
}

type Fields = Record<string, unknown>;

const isObject = (value: unknown): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value);
const textIn = (value: unknown): string | null => (typeof value === "string" ? value : null);
const numberIn = (value: unknown): number | null => (typeof value === "number" ? value : null);

/** Every task in a result, outermost first, each with the pictures found inside it. */
export function tasksIn(data: unknown): TaskFound[] {
  const found = new Map<string, TaskFound>();
  for (const value of objectsIn(data)) {
    if (!isTask(value) || found.has(value.id)) continue;
    const pictures = picturesIn(value);
    found.set(value.id, {
      id: value.id,
      number: numberIn(value.number),
      status: textIn(value.status),
      prompt: textIn(value.prompt),
      pictures,
    });
  }
  return [...found.values()];
}

/** Every picture in a result: those that this server serves, and those that are inside the result. */
export function picturesIn(data: unknown): Picture[] {
  const found = new Map<string, Picture>();
  for (const [value, name] of namedObjectsIn(data, "")) {
    const picture = pictureFrom(value, name);
    if (picture && !found.has(picture.url)) found.set(picture.url, picture);
  }
  return [...found.values()];
}

/** The task events in one message of a subscription; there is one per subscription field, so nearly always exactly one. */
export function eventsIn(data: unknown): TaskEvent[] {
  return isObject(data) ? Object.values(data).filter(isObject).map(eventFrom) : [];
}

function eventFrom(value: Fields): TaskEvent {
  const type = textIn(value.__typename);
  const progress = isObject(value.progress) ? value.progress : {};
  const failure = isObject(value.failure) ? value.failure : null;
  const again = type === "TaskRetryScheduled" || "retryAt" in value;
  return {
    type,
    sequence: numberIn(value.sequence),
    status: textIn(value.status) ?? statusOf(type),
    fraction: numberIn(progress.fraction),
    estimated: textIn(progress.origin)?.toUpperCase() === "ESTIMATED",
    index: numberIn(value.index) ?? 0,
    partial: numberIn(value.partialImageIndex) ?? (type === "PartialImageReady" ? 0 : null),
    picture: picturesIn(value)[0] ?? null,
    failure: failure && !again ? [textIn(failure.code), textIn(failure.message)].filter((text) => text !== null).join(": ") : null,
    remark: again ? retryIn(value, failure) : isObject(value.notice) ? textIn(value.notice.message) : null,
  };
}

/** "… Sent again at 14:05:09 (attempt 2)." with as much of it as was selected. */
function retryIn(value: Fields, failure: Fields | null): string {
  const [at, attempt] = [Date.parse(textIn(value.retryAt) ?? ""), numberIn(value.attempt)];
  const time = Number.isNaN(at) ? "later" : `at ${new Date(at).toLocaleTimeString(undefined, { hour12: false })}`;
  const next = `It is sent again ${time}${attempt === null ? "" : ` (attempt ${attempt})`}.`;
  const why = failure && textIn(failure.message)?.replace(/\w\)?$/, "$&.");
  return why ? `${why} ${next}` : next;
}

/** TaskSucceeded, for one, says with its name alone what TaskStatusChanged says with a field. */
function statusOf(type: string | null): string | null {
  const statuses: Record<string, string> = {
    TaskSucceeded: "SUCCEEDED",
    TaskFailed: "FAILED",
    TaskCanceled: "CANCELED",
    TaskHandedOff: "HANDED_OFF",
    TaskRetryScheduled: "QUEUED",
  };
  return (type && statuses[type]) ?? null;
}

function isTask(value: Fields): value is Fields & { id: string } {
  return typeof value.id === "string" && (value.__typename === "Task" || typeof value.number === "number");
}

function pictureFrom(value: Fields, name: string): Picture | null {
  const url = textIn(value.url);
  if (url === null || !(value.__typename === "Image" || /image|picture/i.test(name) || "width" in value)) return null;
  const address = URL.parse(url, location.href);
  if (address === null || !/^(https?|data):$/.test(address.protocol)) return null;
  const [width, height] = [numberIn(value.width), numberIn(value.height)];
  return { url: here(address), ratio: width && height ? width / height : null };
}

/**
 * The same picture at the address this page came from. The server may know itself by another name (a public address, 127.0.0.1
 * for localhost), and the page's policy lets it load from its own origin only.
 */
function here(address: URL): string {
  return address.protocol === "data:" ? address.href : `${location.origin}${address.pathname}${address.search}`;
}

function* objectsIn(data: unknown): Generator<Fields> {
  for (const [value] of namedObjectsIn(data, "")) yield value;
}

/** Walks a result depth first; an object in a list has the name of the list. */
function* namedObjectsIn(data: unknown, name: string): Generator<[Fields, string]> {
  if (Array.isArray(data)) {
    for (const item of data) yield* namedObjectsIn(item, name);
  } else if (isObject(data)) {
    yield [data, name];
    for (const [key, value] of Object.entries(data)) yield* namedObjectsIn(value, key);
  }
}
