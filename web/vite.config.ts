import { defineConfig } from "vite";

// The pages go into the Python package, from where the server serves them under /static/.
export default defineConfig({
  base: "/static/",
  build: {
    outDir: "../graph/static",
    emptyOutDir: true,
    target: "es2022",
    // The page's policy allows no inline script, and data: only for pictures and fonts: keep every other asset a file.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    // Monaco, the editor inside GraphiQL, is one big lazy chunk; that is expected.
    chunkSizeWarningLimit: 6000,
    reportCompressedSize: false,
    rolldownOptions: {
      input: { graphiql: "graphiql.html" },
      // "use client" and the like, in packages: a remark for frameworks that also render on a server.
      onLog(level, log, handle) {
        if (log.code !== "MODULE_LEVEL_DIRECTIVE") handle(level, log);
      },
    },
  },
  worker: { format: "es" },
  // `npm run dev`: this page with live reload at /static/graphiql.html, against a Darkroom that runs beside it.
  server: {
    proxy: {
      "/graphql": { target: "http://127.0.0.1:8000", ws: true },
      "/images": { target: "http://127.0.0.1:8000" },
    },
  },
});
