import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

// Mode `demo` runs the page in a browser with recorded data instead of the Rust side: see src/demo/.
export default defineConfig({
  plugins: [svelte()],
  clearScreen: false,
  server: { port: 5173, strictPort: true },
  build: { target: "safari16", sourcemap: false },
  test: { environment: "happy-dom", include: ["tests/**/*.test.ts"] },
  resolve: process.env.VITEST ? { conditions: ["browser"] } : undefined,
} as never);
