// Types in a real VS Code (code-server in headless Chromium) and accepts what the extension suggests.
// node vscode_driver.mjs JOB.json     writes its findings to the job's "result" file
//
// The job: url, folder, file (shown in the explorer), text (typed at the end of the file), wait_ms,
// chromium, playwright (the folder it is in), pictures (a folder), result (a file).

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { createRequire } from 'node:module';

const job = JSON.parse(fs.readFileSync(process.argv[2], 'utf8'));
const { chromium } = createRequire(path.join(job.playwright, 'index.js'))('playwright-core');
const EDITOR = '.editor-instance .monaco-editor';
// One line of ghost text is decorations in the line; several lines are a view zone of their own.
const GHOST = '.monaco-editor .suggest-preview-text, .monaco-editor [class*="ghost-text"]';
const found = { steps: [], outside: [] };
const started = Date.now();
const step = (name) => found.steps.push(`${((Date.now() - started) / 1000).toFixed(1)} s ${name}`);

async function open(page) {
  page.on('request', (request) => {
    const { hostname, protocol } = new URL(request.url());
    if (protocol.startsWith('http') && hostname !== '127.0.0.1') found.outside.push(request.url());
  });
  await page.goto(`${job.url}/?folder=${encodeURIComponent(job.folder)}`);
  const row = page.locator('.explorer-folders-view .monaco-list-row', { hasText: job.file });
  await row.waitFor({ timeout: 60000 });
  await row.dblclick();
  await page.waitForSelector(`${EDITOR} .view-lines`, { timeout: 30000 });
  step('editor open');
}

async function suggested(page) {
  const bar = page.locator('.statusbar-item', { hasText: /FLeX-Assist|python:/ });
  await bar.first().waitFor({ timeout: 60000 });
  await page.waitForFunction(
    () => document.querySelector('[id="flex-assist.flex-assist.flexAssist.status"] .codicon-sparkle'),
    null, { timeout: job.wait_ms, polling: 100 },
  );
  step('server ready');
  await page.locator(`${EDITOR} .view-lines`).click();
  await page.keyboard.press('Control+End');
  await page.keyboard.type(job.text, { delay: 30 });
  const typed = Date.now();
  await page.waitForFunction(
    (selector) => [...document.querySelectorAll(selector)].some((each) => each.textContent.trim()),
    GHOST, { timeout: job.wait_ms, polling: 20 },
  );
  found.ghost_ms = Date.now() - typed;
  await page.waitForTimeout(500);
  found.ghost = await page.evaluate(
    (selector) => [...document.querySelectorAll(selector)].map((each) => each.textContent), GHOST,
  );
  step('ghost text');
}

async function accept(page) {
  await page.screenshot({ path: path.join(job.pictures, 'ghost.png') });
  await page.keyboard.press('Tab');
  await page.waitForTimeout(800);
  await page.keyboard.press('Control+S');
  await page.waitForTimeout(1500);
  await page.screenshot({ path: path.join(job.pictures, 'accepted.png') });
  found.status = await page.locator('[id="flex-assist.flex-assist.flexAssist.status"]').innerText();
  step('saved');
}

const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'flex-assist-chromium-'));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: job.chromium,
  headless: true,
  viewport: { width: 1100, height: 640 },
  args: [
    '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
    '--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1',
  ],
});
const page = browser.pages()[0] ?? (await browser.newPage());
try {
  await open(page);
  await suggested(page);
  await accept(page);
} catch (error) {
  found.error = String(error).slice(0, 2000);
  await page.screenshot({ path: path.join(job.pictures, 'failed.png') });
}
await browser.close();
fs.rmSync(profile, { recursive: true, force: true });
fs.writeFileSync(job.result, JSON.stringify(found, null, 2));
