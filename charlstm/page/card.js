// The model's card: what it is, what it was trained on and how well, and what made it.

function card(model) {
  const {data} = model;
  const groups = {
    model: {
      task: data.task, ...data.model, characters: model.characters.length, unit: data.unit, parameters: data.parameters,
      "weights here": data.stored_as, date: data.date,
    },
    text: {"trained on": data.text, characters: data.text_length, records: data.records},
    figures: data.figures,
    "made with": data.provenance,
  };
  return Object.entries(groups).map(([name, entries]) => make("section", {}, make("h3", {}, name),
    make("dl", {}, ...Object.entries(entries).filter(([, value]) => value !== null && typeof value !== "object")
      .flatMap(([key, value]) => [make("dt", {}, key.replaceAll("_", " ")), make("dd", {}, shownFact(value))]))));
}

function shownFact(value) {
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(5)));
}
