/* The search's order: first what leads to a command, last what explains how all of it is made. */
var Scorer = {
  score: ([docname, title, anchor, descr, score]) => {
    if (["architecture", "changelog", "scaling", "faults"].includes(docname)) return score / 4;
    return docname === "tasks" ? score * 2 : score;
  },
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,
};
