/**
 * What each tab of GraphiQL has brought to light: the tasks and pictures in its latest result, or, while it watches a task,
 * every stage of every picture. GraphiQL itself keeps only the latest message, and in a hurry shows not even each of them.
 */
import { eventsIn, picturesIn, type Picture, type TaskEvent, type TaskFound, tasksIn } from "./findings";

export interface Stage extends Picture {
  name: string;
  final: boolean;
}

export interface Development {
  events: number;
  status: string | null;
  fraction: number | null;
  estimated: boolean;
  failure: string | null;
  /** The newest remark, until the task moves on. */
  remark: string | null;
  /** The stages of each picture in the order they came, the finished one last. */
  pictures: ReadonlyMap<number, readonly Stage[]>;
  seen: ReadonlySet<number>;
}

export interface Exposure {
  running: boolean;
  tasks: readonly TaskFound[];
  pictures: readonly Picture[];
  development: Development | null;
}

const BLANK: Exposure = { running: false, tasks: [], pictures: [], development: null };
const UNDEVELOPED: Development = {
  events: 0,
  status: null,
  fraction: null,
  estimated: false,
  failure: null,
  remark: null,
  pictures: new Map(),
  seen: new Set(),
};

/** Exposures by tab, in the form that React's `useSyncExternalStore` wants: a snapshot changes only when its content does. */
export class Exposures {
  /** The tab an operation belongs to when it starts now. GraphiQL does not tell its fetcher. */
  activeTab = "";
  private lost = false;
  private readonly byTab = new Map<string, Exposure>();
  private readonly listeners = new Set<() => void>();

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** Whether the websocket is gone and on its way back. */
  get reconnecting(): boolean {
    return this.lost;
  }

  set reconnecting(lost: boolean) {
    this.lost = lost;
    this.tell();
  }

  of(tab: string): Exposure {
    return this.byTab.get(tab) ?? BLANK;
  }

  begin(tab: string, subscription: boolean): void {
    this.set(tab, { ...BLANK, running: true, development: subscription ? UNDEVELOPED : null });
  }

  end(tab: string): void {
    if (this.of(tab).running) this.set(tab, { ...this.of(tab), running: false });
  }

  /** The result of a query or mutation. */
  result(tab: string, data: unknown): void {
    const tasks = tasksIn(data);
    const inTasks = new Set(tasks.flatMap((task) => task.pictures.map((picture) => picture.url)));
    const pictures = picturesIn(data).filter((picture) => !inTasks.has(picture.url));
    this.set(tab, { running: false, tasks, pictures, development: null });
  }

  /** One message of a subscription. */
  message(tab: string, data: unknown): void {
    const before = this.of(tab);
    const development = eventsIn(data).reduce(develop, before.development ?? UNDEVELOPED);
    this.set(tab, { ...before, development });
  }

  private set(tab: string, exposure: Exposure): void {
    this.byTab.set(tab, exposure);
    this.tell();
  }

  private tell(): void {
    for (const listener of this.listeners) listener();
  }
}

/** Adds one event. A reconnected socket replays the log from its start, so an event seen before changes nothing. */
function develop(before: Development, event: TaskEvent): Development {
  if (event.sequence !== null && before.seen.has(event.sequence)) return before;
  const movesOn = event.status !== null || event.fraction !== null || event.picture !== null;
  return {
    events: before.events + 1,
    status: event.status ?? before.status,
    fraction: event.fraction ?? before.fraction,
    estimated: event.fraction === null ? before.estimated : event.estimated,
    failure: event.failure ?? before.failure,
    remark: event.remark ?? (movesOn ? null : before.remark),
    pictures: event.picture ? withStage(before.pictures, event, event.picture) : before.pictures,
    seen: event.sequence === null ? before.seen : new Set(before.seen).add(event.sequence),
  };
}

function withStage(pictures: Development["pictures"], event: TaskEvent, picture: Picture): Development["pictures"] {
  const stages = pictures.get(event.index) ?? [];
  const final = event.partial === null;
  const stage: Stage = { ...picture, final, name: final ? "Final" : `Partial ${(event.partial ?? 0) + 1}` };
  const others = stages.filter((other) => other.name !== stage.name);
  // A partial image may arrive behind the finished picture; it must not cover it.
  const ordered = [...others, stage].sort((one, other) => Number(one.final) - Number(other.final));
  return new Map(pictures).set(event.index, ordered);
}
