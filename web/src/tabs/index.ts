import type { TabDefinition } from "@graphiql/react";
