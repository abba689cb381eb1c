/** The panel below the response: what the latest result, or the running subscription, has brought to light. */
import { ChevronDownIcon, ChevronUpIcon, useGraphiQL } from "@graphiql/react";
import { type ReactElement, useLayoutEffect, useState, useSyncExternalStore } from "react";
import { useEditorOptions } from "./editors";
import type { Development, Exposure, Exposures } from "./exposures";
import type { TaskFound } from "./findings";
import { DevelopingPicture, Print } from "./pictures";
import { useWatch } from "./watch";

export function DarkroomPanel({ exposures }: { exposures: Exposures }): ReactElement {
  const tab = useGraphiQL((state) => state.tabs[state.activeTabIndex]?.id ?? "");
  useLayoutEffect(() => {
    exposures.activeTab ||= tab; // The first one; of every change after that GraphiQL tells the page at once.
  }, [exposures, tab]);
  const exposure = useSyncExternalStore(exposures.subscribe, () => exposures.of(tab));
  const reconnecting = useSyncExternalStore(exposures.subscribe, () => exposures.reconnecting);
  const watch = useWatch();
  useEditorOptions();
  const [folded, setFolded] = useState(false);

  const hasPictures = showsPictures(exposure);
  const open = hasPictures && !folded;
  const ToggleIcon = folded ? ChevronUpIcon : ChevronDownIcon;
  return (
    <section className={open ? "darkroom darkroom-open" : "darkroom"} aria-label="Darkroom">
      <header>
        <StatusLine exposure={exposure} reconnecting={reconnecting} watch={watch} />
        {hasPictures && (
          <button
            type="button"
            className="graphiql-un-styled"
            onClick={() => setFolded(!folded)}
            aria-expanded={open}
            aria-label={folded ? "Show the pictures" : "Hide the pictures"}
          >
            <ToggleIcon className="graphiql-chevron-icon" aria-hidden="true" />
          </button>
        )}
      </header>
      {exposure.development && <ProgressBar development={exposure.development} running={exposure.running} />}
      {open && <Pictures exposure={exposure} watch={watch} tab={tab} />}
    </section>
  );
}

type Watch = (task: string) => void;

interface StatusLineProps {
  exposure: Exposure;
  reconnecting: boolean;
  watch: Watch;
}

function StatusLine({ exposure, reconnecting, watch }: StatusLineProps): ReactElement {
  const { development, tasks, pictures, running } = exposure;
  const [first] = tasks;
  if (development) return <Progress development={development} running={running} reconnecting={reconnecting} />;
  if (running) return <p role="status">Waiting for the answer…</p>;
  if (first && tasks.length === 1 && first.pictures.length === 0) {
    return (
      <>
        <p role="status">
          <strong>{nameOf(first)}</strong>
          {first.status && <Status value={first.status} />}
        </p>
        <button type="button" className="graphiql-button darkroom-watch" onClick={() => watch(first.id)}>
          Watch this task
        </button>
      </>
    );
  }
  if (tasks.length > 0) return <p role="status">{counted(tasks.length, "task")} · click one to see how it developed</p>;
  if (pictures.length > 0) return <p role="status">{counted(pictures.length, "picture")}</p>;
  return <p className="darkroom-quiet">▶ runs the operation. Pictures in its response develop here.</p>;
}

interface ProgressProps {
  development: Development;
  running: boolean;
  reconnecting: boolean;
}

function Progress({ development, running, reconnecting }: ProgressProps): ReactElement {
  const { status, events, failure, remark } = development;
  const remarks = [
    remark,
    events > 0 && counted(events, "event"),
    running && percentage(development),
    running && reconnecting && "connection lost, trying again…",
    !running && !isOver(status) && "no longer watching; the task itself goes on",
  ].filter((remark) => typeof remark === "string");
  if (running && events === 0) return <p role="status">{reconnecting ? "No connection yet, trying again…" : "Waiting for the first event…"}</p>;
  if (events === 0) return <p role="status">Ended without an event.</p>;
  return (
    <p role="status">
      {status && <Status value={status} />}
      {failure ?? <span className="darkroom-quiet">{remarks.join(" · ")}</span>}
    </p>
  );
}

function percentage({ fraction, estimated }: Development): string | null {
  return fraction === null ? null : `${Math.round(fraction * 100)} %${estimated ? " estimated" : ""}`;
}

const isOver = (status: string | null): boolean => /^(SUCCEEDED|FAILED|CANCELED|HANDED_OFF)$/.test(status ?? "");

function ProgressBar({ development, running }: { development: Development; running: boolean }): ReactElement {
  const value = development.fraction === null ? {} : { value: development.fraction };
  // It keeps its place when all is done, so that the picture does not move.
  return <progress max={1} {...value} data-running={running} aria-hidden={!running} aria-label="Progress of this task" />;
}

function Pictures({ exposure, watch, tab }: { exposure: Exposure; watch: Watch; tab: string }): ReactElement {
  const { development, tasks, pictures, running } = exposure;
  if (development) {
    const several = development.pictures.size > 1;
    return (
      <div className={several ? "darkroom-tray darkroom-several" : "darkroom-tray"}>
        {[...development.pictures].map(([index, stages]) => (
          <DevelopingPicture key={`${tab} ${index}`} number={index + 1} stages={stages} running={running} />
        ))}
      </div>
    );
  }
  return (
    <div className="darkroom-tray darkroom-contact-sheet">
      {tasks.map((task) => (
        <TaskCard key={task.id} task={task} watch={watch} />
      ))}
      {pictures.map((picture, index) => (
        <a key={picture.url} href={picture.url} target="_blank" rel="noreferrer">
          <Print picture={picture} alt={`Picture ${index + 1} of the response`} />
        </a>
      ))}
    </div>
  );
}

function TaskCard({ task, watch }: { task: TaskFound; watch: Watch }): ReactElement {
  const [picture] = task.pictures;
  return (
    <button type="button" onClick={() => watch(task.id)} title={task.prompt ?? undefined} aria-label={`Watch ${nameOf(task)}`}>
      {picture ? <Print picture={picture} alt={task.prompt ?? ""} /> : <span className="darkroom-print" />}
      <span className="darkroom-caption">
        {nameOf(task)} {task.status && <Status value={task.status} />}
      </span>
    </button>
  );
}

function Status({ value }: { value: string }): ReactElement {
  return <span className={`darkroom-status darkroom-${value.toLowerCase()}`}>{value.toLowerCase().replaceAll("_", " ")}</span>;
}

function showsPictures({ development, tasks, pictures }: Exposure): boolean {
  if (development) return development.pictures.size > 0;
  return pictures.length > 0 || tasks.length > 1 || tasks.some((task) => task.pictures.length > 0);
}

const nameOf = (task: TaskFound): string => (task.number === null ? "Task" : `Task ${task.number}`);
const counted = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? "" : "s"}`;
