// Walks through rescues on the page with a real browser, and looks at every screen on the way.
//
// node browse.mjs PROGRAM FOLDER [PART…]: FOLDER gets the sample box, the logs and the pictures. On each screen: no fault that
// axe knows, in light and dark; nothing wider than a narrow phone; no message on the browser's console; no request to
// anybody else. Prints one line for each promise, and ends with 1 when one is broken.
import { spawn, execFileSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import axe from "axe-core";

const here = dirname(fileURLToPath(import.meta.url));
const folder = resolve(process.argv[3]);
const program = join(folder, "medium/bin/lifeboat");
const SIZES = { phone: { width: 375, height: 740 }, narrow: { width: 320, height: 568 }, desktop: { width: 1280, height: 860 } };
const PATIENCE = 180_000;
let broken = 0;

const promise = (name, holds, why = "") => {
  console.log(`${holds ? "ok     " : "BROKEN "} ${name}${holds || !why ? "" : `: ${why}`}`);
  if (!holds) broken += 1;
};

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

/** Waits until `look` gives something. */
const until = async (what, look) => {
  for (const end = Date.now() + PATIENCE; Date.now() < end; await pause(100)) {
    const found = await look();
    if (found) return found;
  }
  throw new Error(`no ${what}`);
};

/** The program on a medium of its own, with what looks like a program for the box; no test starts that. */
const onMedium = () => {
  const beside = join(folder, "medium/share/lifeboat/amd64");
  mkdirSync(dirname(program), { recursive: true });
  mkdirSync(beside, { recursive: true });
  copyFileSync(resolve(process.argv[2]), program);
  const head = Buffer.alloc(64);
  head.write("\x7fELF\x02\x01", "latin1");
  // The machine is x86-64; there are no program headers, so no loader either.
  [head[18], head[54]] = [62, 56];
  writeFileSync(join(beside, "lifeboat"), head);
};

/** A guide on a sample of its own, with the page on a port of the loopback interface. */
const start = async (name, ...sample) => {
  const place = join(folder, name);
  rmSync(place, { recursive: true, force: true });
  mkdirSync(place, { recursive: true });
  execFileSync("python3", ["-B", join(here, "../sample/make.py"), place, ...sample], { stdio: "ignore" });
  mkdirSync(join(place, "drive"));
  execFileSync("mv", [join(place, "backup.tar.gz"), join(place, "drive")]);
  mkdirSync(join(place, "spare"));
  const log = openSync(join(place, "log.txt"), "w");
  const args = ["guide", "--plain", "--web", "--listen", "127.0.0.1:0", "--status", "status.txt"];
  const roots = ["--language", "en", "--name", `lifeboat-browser-${process.pid}`, "--root", "box", "--root", "drive", "--root", "spare"];
  // While this file is there, the restore stands still: its screen can be looked at on the fastest machine.
  const hold = join(place, "hold");
  writeFileSync(hold, "");
  const env = { ...process.env, LIFEBOAT_FAULT: "write.data:10:hold", LIFEBOAT_FAULT_HOLD: hold };
  const child = spawn(program, [...args, ...roots], { cwd: place, env, stdio: ["ignore", log, log] });
  const ended = new Promise((done) => child.on("exit", (code) => done(code)));
  const status = () => (existsSync(join(place, "status.txt")) ? readFileSync(join(place, "status.txt"), "utf8") : "");
  const line = (pattern) => until(String(pattern), () => status().match(pattern)?.[1]);
  return { place, child, ended, url: await line(/(https:\/\/127\.0\.0\.1:\d+\/)/), code: () => line(/code: (\S+)/),
    goOn: () => rmSync(hold, { force: true }) };
};

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});

/** A page that notes what goes wrong on it. */
const open = async (guide, options) => {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, acceptDownloads: true, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const faults = [];
  page.on("console", (message) => {
    if (message.type() === "error" || message.type() === "warning") faults.push(message.text());
  });
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("request", (request) => {
    if (!request.url().startsWith(guide.url)) faults.push(`a request to ${request.url()}`);
  });
  return { page, faults };
};

/** Everything that axe knows, where scripts of the page itself are forbidden to do so. */
const accessible = async (page) => {
  await page.evaluate(axe.source);
  const found = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
  }));
  return found.violations.map((one) => `${one.id}: ${one.nodes.map((node) => node.html).join(" ").slice(0, 300)}`);
};

/** Looks at a screen in all sizes. */
const look = async (page, name) => {
  for (const scheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme: scheme });
    for (const [size, viewport] of Object.entries(SIZES)) {
      await page.setViewportSize(viewport);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      if (wide > 0) promise(`${name} fits a ${size}`, false, `${wide} px too wide`);
      if (size === "narrow") continue;
      await page.screenshot({ path: join(folder, `${name}-${size}-${scheme}.png`), fullPage: true });
    }
    const faults = await accessible(page);
    promise(`${name} is accessible, in ${scheme} colours`, faults.length === 0, faults.join("; "));
  }
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize(SIZES.phone);
};

const question = (page) => page.locator("form[data-id]").first().getAttribute("data-id", { timeout: 500 }).catch(() => null);

/** Which one of all questions the open one is; none while there is none. */
const number = (page) => page.locator("form[data-id] input[name=number]").first().inputValue({ timeout: 500 }).catch(() => null);

/** Waits for the question with this id. */
const asked = async (page, id) => {
  await until(`question ${id}`, async () => (await question(page)) === id);
  await page.waitForLoadState();
};

/** Answers the open question with the keyboard alone. */
const byKeyboard = async (page, answer) => {
  const choice = typeof answer === "number";
  const target = { number: "input[type=radio]", string: "#answer", object: "button[name=go]" }[typeof answer];
  const is = (selector) => page.evaluate((selector) => document.activeElement?.matches(selector) ?? false, selector);
  for (let steps = 0; !(await is(target)); steps += 1) {
    if (steps > 40) throw new Error(`the keyboard does not reach ${target}`);
    await page.keyboard.press("Tab");
  }
  if (choice) {
    const chosen = page.locator(`input[type=radio][value="${answer}"]`);
    await page.keyboard.press("Space");
    for (let steps = 0; !(await chosen.isChecked()); steps += 1) {
      if (steps > 20) throw new Error(`the arrows do not reach answer ${answer}`);
      await page.keyboard.press("ArrowDown");
    }
  } else if (answer !== null) {
    await page.keyboard.type(answer);
  }
  await page.keyboard.press("Enter");
};

/** The same with a finger or a mouse. */
const byPointer = async (page, answer) => {
  if (typeof answer === "number") await page.locator(`input[type=radio][value="${answer}"]`).check();
  else if (answer !== null) await page.locator("#answer").fill(answer);
  await page.locator("form[data-id] button[name=go]").click();
};

const WALK = JSON.parse(readFileSync(join(here, "walk.json"), "utf8"));

const enter = async (page, guide) => {
  await page.goto(guide.url);
  await page.locator("#code").fill(await guide.code());
  await page.keyboard.press("Enter");
};

const isRestored = (guide) => {
  try {
    execFileSync("python3", ["-B", join(here, "../sample/check.py"), join(guide.place, "box"), join(guide.place, "expected.json")]);
    return "";
  } catch (error) {
    return String(error.stdout ?? error).slice(-600);
  }
};

/** The screen of the restore, which stands still until it was looked at. */
const lookAtWork = async (page, guide) => {
  await page.locator("#work progress").waitFor({ timeout: PATIENCE });
  await look(page, "40-work");
  await page.evaluate(() => { globalThis.wasHere = true; });
  const shown = () => page.locator("#work").innerText();
  const before = await shown();
  await until("news of the restore", async () => (await shown()) !== before);
  promise("progress moves by itself, without loading the page again", await page.evaluate(() => globalThis.wasHere === true));
  guide.goOn();
};

/** A whole rescue with scripts, by keyboard, with every screen looked at. */
const withScripts = async () => {
  const guide = await start("scripts", "--size", "40");
  const { page, faults } = await open(guide, { viewport: SIZES.phone });
  await page.goto(guide.url);
  await look(page, "00-code");
  await page.locator("#code").fill("2222-2222");
  await page.keyboard.press("Enter");
  await page.locator("[role=alert]").waitFor();
  await look(page, "01-wrong-code");
  const expected = faults.splice(0).filter((fault) => !fault.includes("403"));
  promise("the page of the code makes no fault", expected.length === 0, expected.join("; "));
  await page.locator("#code").fill(await guide.code());
  await page.keyboard.press("Enter");
  let number = 2;
  for (const [id, answer] of WALK) {
    await asked(page, id);
    await look(page, `${String(number).padStart(2, "0")}-${id}`);
    number += 1;
    if (id === "consent") {
      await page.reload();
      await asked(page, id);
    }
    await byKeyboard(page, answer);
    if (id === "consent") await lookAtWork(page, guide);
  }
  await until("the last page", async () => (await page.locator("h1").innerText().catch(() => "")) === "Lifeboat has ended");
  await look(page, "99-ended");
  promise("the guide ends well", (await guide.ended) === 0);
  const wrong = isRestored(guide);
  promise("the box is restored, by keyboard", wrong === "", wrong);
  const rest = faults.filter((fault) => !fault.includes("ERR_CONNECTION_REFUSED"));
  promise("no screen makes a fault, and nobody else is asked", rest.length === 0, rest.join("; "));
};

/** The same without scripts, with a pointer. */
const withoutScripts = async () => {
  const guide = await start("no-scripts", "--size", "40");
  guide.goOn();
  const { page } = await open(guide, { viewport: SIZES.desktop, javaScriptEnabled: false });
  await enter(page, guide);
  for (const [id, answer] of WALK) {
    await asked(page, id);
    if (id === "ended") {
      const [download] = await Promise.all([page.waitForEvent("download"), page.locator("a[download]").click()]);
      const report = readFileSync(await download.path(), "utf8");
      promise("the report can be taken along", report.includes("[consent]"), report.slice(0, 200));
    }
    await byPointer(page, answer);
  }
  promise("the guide ends well without scripts", (await guide.ended) === 0);
  const wrong = isRestored(guide);
  promise("the box is restored without scripts", wrong === "", wrong);
};

/** A backup that the browser sends, and one that it takes along. */
const files = async () => {
  const guide = await start("files");
  const backup = join(guide.place, "drive/backup.tar.gz");
  const sent = readFileSync(backup);
  rmSync(backup);
  const local = join(guide.place, "2025-10-30T02:00:01.tar.gz");
  writeFileSync(local, sent);
  const { page, faults } = await open(guide, { viewport: SIZES.phone });
  await enter(page, guide);
  await asked(page, "choose-box");
  // The guide looked while the backup was still there.
  await page.getByText("look again").click();
  const before = await number(page);
  await page.locator("button[name=go]").click();
  // The same question comes again; the old one must not be taken for it.
  await until("the question after looking again", async () => (await number(page)) !== before && (await question(page)) === "choose-box");
  await page.waitForLoadState();
  await byPointer(page, 0);
  await asked(page, "no-backup");
  await look(page, "60-no-backup");
  await byPointer(page, 0);
  await asked(page, "upload-to");
  await look(page, "61-upload-to");
  await page.getByText(/spare/).click();
  await page.locator("button[name=go]").click();
  await asked(page, "upload");
  await look(page, "62-upload");
  await page.locator("#file").setInputFiles(local);
  await page.locator("button[name=go]").click();
  await asked(page, "choose-backup");
  await look(page, "63-uploaded");
  const stored = readFileSync(join(guide.place, "spare/2025-10-30T02-00-01.tar.gz"));
  promise("a backup that the browser sends arrives as it is", stored.equals(sent));
  await byPointer(page, 0);
  await asked(page, "choose-archive");
  await byPointer(page, 0);
  await asked(page, "choose-apps");
  await page.getByText("take the backup along").click();
  await page.locator("button[name=go]").click();
  await asked(page, "download");
  await look(page, "64-download");
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator("button[name=go]").click()]);
  const taken = await download.path();
  const names = (file) => execFileSync("tar", ["tzf", file]).toString().split("\n").map((name) => name.replace(/\/$/, "")).sort().join("\n");
  promise("a backup that the browser takes along is whole", names(taken) === names(local), await download.failure());
  await asked(page, "choose-apps");
  promise("files make no fault", faults.length === 0, faults.join("; "));
  guide.child.kill();
};

/** A second browser, a lost connection, and what they see. */
const twoBrowsers = async () => {
  const guide = await start("two");
  const first = await open(guide, { viewport: SIZES.phone });
  await enter(first.page, guide);
  await asked(first.page, WALK[0][0]);
  const context = first.page.context();
  await context.setOffline(true);
  await first.page.locator("#offline").waitFor({ state: "visible" });
  await look(first.page, "50-offline");
  await context.setOffline(false);
  await first.page.locator("#offline").waitFor({ state: "hidden" });
  promise("a lost connection is told and comes back", true);
  const used = await guide.code();
  const second = await open(guide, { viewport: SIZES.desktop });
  await second.page.goto(guide.url);
  await look(second.page, "51-taken");
  await second.page.locator("#code").fill(used);
  await second.page.keyboard.press("Enter");
  await asked(second.page, WALK[0][0]);
  await first.page.locator("#code").waitFor();
  promise("the next code takes over, and the first browser is told to enter one", true);
  guide.child.kill();
};

mkdirSync(folder, { recursive: true });
onMedium();
try {
  const parts = { scripts: withScripts, "no-scripts": withoutScripts, files, two: twoBrowsers };
  const chosen = process.argv.slice(4);
  for (const name of chosen.length ? chosen : Object.keys(parts)) await parts[name]();
} catch (error) {
  promise("the walk reaches its end", false, error.stack);
} finally {
  await browser.close();
}
writeFileSync(join(folder, "result.txt"), `${broken} broken\n`);
process.exit(broken === 0 ? 0 : 1);
