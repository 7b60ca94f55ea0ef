// Starts the language server, which does all the work; shows its status, and why it answered so.

const vscode = require('vscode');
const { LanguageClient } = require('vscode-languageclient/node');

const SECTION = 'flexAssist';
const ICONS = {
  starting: 'sync~spin', loading: 'sync~spin', ready: 'sparkle', off: 'circle-slash', error: 'warning',
};

let client;
// Starting takes a while, and settings may arrive meanwhile: one thing after the other.
let work = Promise.resolve();

function inTurn(next) {
  work = work.then(next, next);
  return work;
}

exports.activate = async (context) => {
  const bar = vscode.window.createStatusBarItem('flexAssist.status', vscode.StatusBarAlignment.Right, 100);
  bar.name = 'FLeX-Assist';
  bar.command = 'flexAssist.why';
  const explanation = vscode.window.createOutputChannel('FLeX-Assist: why');
  context.subscriptions.push(
    bar,
    explanation,
    vscode.commands.registerCommand('flexAssist.restart', () => inTurn(() => restart(context, bar))),
    vscode.commands.registerCommand('flexAssist.why', () => showWhy(explanation, 'flex-assist.why')),
    vscode.commands.registerCommand('flexAssist.again', () => showWhy(explanation, 'flex-assist.again')),
    vscode.commands.registerCommand('flexAssist.report', () => openReport()),
    vscode.workspace.onDidChangeConfiguration((event) => inTurn(() => reconfigure(context, bar, event))),
  );
  await inTurn(() => start(context, bar));
};

exports.deactivate = () => inTurn(stop);

async function start(context, bar) {
  const settings = vscode.workspace.getConfiguration(SECTION);
  show(bar, { state: 'starting', message: 'starting' });
  // Without a transport named here the client adds no argument of its own.
  const server = { command: settings.get('command'), args: settings.get('arguments') };
  client = new LanguageClient('flexAssist', 'FLeX-Assist', server, {
    documentSelector: ['file', 'untitled', 'vscode-notebook-cell'].map((scheme) => ({ scheme })),
    initializationOptions: () => chosen(context),
  });
  client.onNotification('flexAssist/status', (status) => show(bar, status));
  try {
    await client.start();
  } catch (error) {
    show(bar, { state: 'error', message: `${server.command} did not start: ${error.message}` });
    complain(server.command);
  }
}

async function stop() {
  const former = client;
  client = undefined;
  try {
    if (former && former.needsStop()) await former.stop();
    if (former) await former.dispose();
  } catch (error) {
    // A server that never ran, or is gone, must not keep the next one from starting.
    console.warn(`FLeX-Assist: the former server did not stop: ${error.message}`);
  }
}

async function restart(context, bar) {
  await stop();
  await start(context, bar);
}

async function reconfigure(context, bar, event) {
  if (event.affectsConfiguration(`${SECTION}.command`) || event.affectsConfiguration(`${SECTION}.arguments`)) {
    await restart(context, bar);
  } else if (event.affectsConfiguration(SECTION) && client && client.isRunning()) {
    await client.sendNotification('workspace/didChangeConfiguration', {
      settings: { [SECTION]: chosen(context) },
    });
  }
}

// Only what somebody has set: a default sent along would win over the user's settings file.
function chosen(context) {
  const settings = vscode.workspace.getConfiguration(SECTION);
  const values = {};
  for (const name of Object.keys(context.extension.packageJSON.contributes.configuration.properties)) {
    const key = name.slice(SECTION.length + 1);
    const found = settings.inspect(key);
    const value = [found.workspaceFolderValue, found.workspaceValue, found.globalValue]
      .find((each) => each !== undefined);
    if (value !== undefined) values[key] = value;
  }
  return values;
}

function show(bar, status) {
  const label = status.language ? `${status.language}: ${status.adapter}` : 'FLeX-Assist';
  bar.text = `$(${ICONS[status.state] ?? 'question'}) ${label}`;
  bar.tooltip = `FLeX-Assist: ${status.message}`;
  bar.backgroundColor = status.state === 'error'
    ? new vscode.ThemeColor('statusBarItem.warningBackground') : undefined;
  bar.show();
}

async function complain(command) {
  const settings = 'Open settings';
  const text = `FLeX-Assist cannot start ${JSON.stringify(command)}. Is it installed, and on the PATH? `
    + 'Otherwise give its whole path in the setting flexAssist.command.';
  if (await vscode.window.showErrorMessage(text, settings) === settings) {
    await vscode.commands.executeCommand('workbench.action.openSettings', `${SECTION}.command`);
  }
}

async function ask(command) {
  if (!client || !client.isRunning()) {
    vscode.window.showWarningMessage('FLeX-Assist: the server does not run.');
    return undefined;
  }
  const answer = await client.sendRequest('workspace/executeCommand', { command });
  if (!answer) vscode.window.showInformationMessage('FLeX-Assist: nothing was asked that is still known.');
  return answer ?? undefined;
}

// The same for "why" and for "again": what the server tells people, and all of it as data.
async function showWhy(explanation, command) {
  const why = await ask(command);
  if (!why) return;
  const { text, ...data } = why;
  explanation.replace(`${text}\n\n${JSON.stringify(data, null, 2)}\n`);
  explanation.show(true);
}

async function openReport() {
  const report = await ask('flex-assist.report');
  if (report) await vscode.window.showTextDocument(vscode.Uri.file(report.path));
}
