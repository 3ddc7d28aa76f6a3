import "./lib/locale";
import "uplot/dist/uPlot.min.css";
import "./theme.css";
import { mount } from "svelte";
import App from "./App.svelte";

if (import.meta.env.MODE === "demo") await (await import("./demo")).install();

mount(App, { target: document.getElementById("app")! });
