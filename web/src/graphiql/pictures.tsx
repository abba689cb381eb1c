/** Pictures on the panel. */
import { type ReactElement, useState } from "react";
import type { Stage } from "./exposures";
import type { Picture } from "./findings";

interface DevelopingPictureProps {
  number: number;
  stages: readonly Stage[];
  running: boolean;
}

/** A picture with its stages below it: shows the latest one, or the one that somebody points out. */
export function DevelopingPicture({ number, stages, running }: DevelopingPictureProps): ReactElement {
  const [chosen, setChosen] = useState<string | null>(null);
  const [arrived, setArrived] = useState<ReadonlyMap<string, "loaded" | "failed">>(new Map());
  const latest = stages.at(-1);
  const wanted = stages.find((stage) => stage.name === chosen) ?? latest;
  if (!wanted) return <></>;
  const settle = (url: string, how: "loaded" | "failed") => setArrived((before) => new Map(before).set(url, how));
  // While a stage is still loading, the one before it stays: a developing picture never goes blank in between.
  const shown = stages.slice(0, stages.indexOf(wanted) + 1).findLast((stage) => arrived.get(stage.url) === "loaded");
  return (
    <figure className="darkroom-picture" aria-busy={running && !latest?.final}>
      <a href={wanted.url} target="_blank" rel="noreferrer" title="Open in its own tab">
        {stages.map((stage) => (
          <img
            key={stage.url}
            src={stage.url}
            alt={stage === shown ? `Picture ${number}: ${stage.name}` : ""}
            data-shown={stage === shown}
            style={stage.ratio === null ? {} : { aspectRatio: stage.ratio }}
            onLoad={() => settle(stage.url, "loaded")}
            onError={() => settle(stage.url, "failed")}
          />
        ))}
        {arrived.get(wanted.url) === "failed" && <span>This picture could not be loaded.</span>}
      </a>
      <figcaption>
        {stages.map((stage) => (
          <button
            key={stage.url}
            type="button"
            aria-pressed={stage === wanted}
            aria-label={`Picture ${number}: ${stage.name}`}
            title={stage.name}
            onClick={() => setChosen(stage === latest ? null : stage.name)}
          >
            <img src={stage.url} alt="" />
          </button>
        ))}
      </figcaption>
    </figure>
  );
}

/** A small picture on the contact sheet. */
export function Print({ picture, alt }: { picture: Picture; alt: string }): ReactElement {
  const [failed, setFailed] = useState(false);
  if (failed) return <span className="darkroom-print">not loaded</span>;
  return <img className="darkroom-print" src={picture.url} alt={alt} onError={() => setFailed(true)} />;
}
