// Under LANG=C the web view calls its language "C", which `Intl` refuses: uPlot would fail while it is imported.
try {
  new Intl.NumberFormat(navigator.language);
} catch {
  Object.defineProperty(navigator, "language", { value: "en-US" });
  Object.defineProperty(navigator, "languages", { value: ["en-US"] });
}
