// Read: any text, each character with the bits that it costs each model.

const LONGEST = 20000; // characters that are read: more are slow to draw

class Reading {
  constructor(model, box, app) {
    Object.assign(this, {model, app, runs: 0});
    this.figure = box.appendChild(make("p", {class: "figure", role: "status"}));
    this.strip = new Strip(box.appendChild(make("div")), {
      label: `The text as ${app.nameOf(model)} reads it`,
      onPoint: (n, span) => this.point(n, span),
    });
  }

  // Read the text anew; an earlier reading is given up.
  async read() {
    const run = ++this.runs, characters = Array.from(this.app.text).slice(0, LONGEST);
    const isWanted = () => run === this.runs;
    const found = await readText(this.model, characters, {held: this.app.heldOf(this.model), isWanted});
    if (!found) return;
    this.characters = characters;
    this.found = found;
    this.strip.clear();
    characters.forEach((character, k) => {
      const isUnknown = this.model.idsOf(character) === null;
      this.strip.add(character, shadeOf(found.bits[k]), isUnknown ? "unknown" : "");
    });
    const [bits, count] = mean(found.bits);
    this.figure.replaceChildren(make("b", {}, count ? bits.toFixed(3) : "–"),
      ` bits per character, ${count} characters` + (found.missing ? `; ${found.missing} unknown, left out` : "") +
      (this.app.heldOf(this.model).length ? "; units are held" : ""));
  }

  point(n, span) {
    if (n === null) return this.app.tip.hideSoon();
    const bits = this.found.bits[n];
    this.app.tip.show(span, Number.isNaN(bits) ? "not read" : `${bits.toFixed(2)} bits, p = ${percent(2 ** -bits)}`);
  }
}
