/* Typeset the formulas of a page with the MathJax of this site. A page without formulas loads nothing. */
(() => {
  const library = new URL("mathjax/tex-chtml.js", document.currentScript.src);
  let loaded;

  window.MathJax = {
    tex: { inlineMath: [["\\(", "\\)"]], displayMath: [["\\[", "\\]"]] },
    options: { ignoreHtmlClass: ".*", processHtmlClass: "arithmatex", enableMenu: false },
    startup: { typeset: false },
  };

  const load = () =>
    (loaded ??= new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = library.href;
      script.onload = done;
      script.onerror = () => failed(new Error(`${library} did not load`));
      document.head.append(script);
    }));

  // The theme calls this once a page is there, and again after each navigation without a reload.
  document$.subscribe(async () => {
    if (!document.querySelector(".arithmatex")) return;
    await load();
    await MathJax.startup.promise;
    MathJax.startup.output.clearCache();
    MathJax.typesetClear();
    MathJax.texReset();
    await MathJax.typesetPromise();
  });
})();
