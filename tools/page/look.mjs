// tools/page/look.mjs ADDRESS FOLDER: pictures of the status page of a node in Chromium, light, dark and on a phone, and what axe finds.
//
//   npm install --prefix /tmp/look playwright-core@1.65.1 axe-core@4.14.0
//   NODE_PATH=/tmp/look/node_modules node tools/page/look.mjs 127.0.0.1:9001 /tmp/pictures
//
// It ends with 1 if the page reports an error, loads anything from elsewhere, or is not accessible. CHROMIUM names the browser.
import { createRequire } from "node:module";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const require = createRequire(join(process.env.NODE_PATH ?? process.cwd(), "look.cjs"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const [address, folder, name = "page"] = process.argv.slice(2);
if (!address || !folder) {
  console.error("give the address of a node's metrics, such as 127.0.0.1:9001, and a folder");
  process.exit(2);
}
mkdirSync(folder, { recursive: true });
const views = [
  { kind: "light", colorScheme: "light", viewport: { width: 1280, height: 900 } },
  { kind: "dark", colorScheme: "dark", viewport: { width: 1280, height: 900 } },
  { kind: "phone", colorScheme: "light", viewport: { width: 390, height: 844 }, isMobile: true, deviceScaleFactor: 2 },
  { kind: "phone-dark", colorScheme: "dark", viewport: { width: 360, height: 740 }, isMobile: true, deviceScaleFactor: 2 },
];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const problems = [];
for (const { kind, ...view } of views) {
  const context = await browser.newContext({ ...view, bypassCSP: false });
  const page = await context.newPage();
  page.on("console", (message) => { if (message.type() === "error") problems.push(`${kind}: ${message.text()}`); });
  page.on("pageerror", (error) => problems.push(`${kind}: ${error.message}`));
  page.on("request", (request) => {
    const { host, protocol } = new URL(request.url());
    if (host !== address && protocol !== "data:") problems.push(`${kind}: loads ${request.url()}`);
  });
  await page.goto(`http://${address}/`);
  await page.waitForFunction(() => document.getElementById("verdict").dataset.state !== "unknown", null, { timeout: 20000 });
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  if (overflow > 0) problems.push(`${kind}: the page is ${overflow} pixels wider than the screen`);
  await page.screenshot({ path: join(folder, `${name}-${kind}.png`), fullPage: true });
  // The tab key reaches what can be used, in the order of the page.
  const reached = [];
  for (let times = 0; times < 8; times += 1) {
    await page.keyboard.press("Tab");
    reached.push(await page.evaluate(() => document.activeElement?.textContent.trim().slice(0, 24) ?? ""));
  }
  console.log(`${kind}: tab reaches ${JSON.stringify(reached)}`);
  const injected = await browser.newContext({ ...view, bypassCSP: true });
  const audited = await injected.newPage();
  await audited.goto(`http://${address}/`);
  await audited.waitForFunction(() => document.getElementById("verdict").dataset.state !== "unknown", null, { timeout: 20000 });
  await audited.addScriptTag({ content: axe });
  const { violations } = await audited.evaluate(() => globalThis.axe.run());
  for (const { id, help, nodes } of violations) problems.push(`${kind}: axe ${id}: ${help}: ${nodes.map((node) => node.target).join(" ")}`);
  console.log(`${kind}: axe finds ${violations.length} problems`);
  await injected.close();
  await context.close();
}
await browser.close();
for (const problem of problems) console.error(problem);
process.exit(problems.length > 0 ? 1 : 0);
