--- FLeX-Assist in Neovim 0.12 or later: ghost text from the language server, accepted with Tab.

local M = {}

--- File types of the languages that an adapter can be made for, and of files that hold them.
M.filetypes = {
  'python', 'typescript', 'typescriptreact', 'javascript', 'javascriptreact', 'java', 'kotlin',
  'go', 'rust', 'c', 'cpp', 'cuda', 'cs', 'ruby', 'php', 'sh', 'bash', 'zsh', 'css', 'scss', 'less',
  'vue', 'svelte', 'astro', 'html', 'xhtml', 'htmldjango', 'htmlangular', 'sql', 'mysql', 'plsql',
  'markdown',
}

--- Neovim's file types whose LSP language identifier is another word.
local language_ids = {
  cs = 'csharp', cuda = 'cuda-cpp', sh = 'shellscript', zsh = 'shellscript',
  xhtml = 'html', htmldjango = 'html', htmlangular = 'html',
}

local NAME = 'flex_assist'

---@class flex_assist.Options
---@field cmd string[] The command that starts the server.
---@field filetypes string[]|false File types to complete in; false for all.
---@field root_markers string[] Files or folders that a repository's root has.
---@field settings table Sections of the settings, e.g. { completion = { debounceMs = 40 } }.
---@field keys table<string, string|false> Insert mode keys; false leaves one unmapped.
local defaults = {
  cmd = { 'flex-assist', 'lsp', '--stdio' },
  filetypes = M.filetypes,
  root_markers = { '.flexassist.toml', '.git' },
  settings = {},
  keys = { accept = '<Tab>', next = '<M-]>', previous = '<M-[>' },
}

---@type table<integer, table> The last status of each client.
local states = {}

--- What `previous` does when there is nothing to accept: what the key did before.
---@param lhs string
---@return fun(): string fallback
---@return boolean remap
local function former_mapping(lhs)
  local former = vim.fn.maparg(lhs, 'i', false, true)
  if former.callback and former.expr == 1 then
    return function() return former.callback() or '' end, former.noremap == 0
  elseif former.callback then
    return function()
      vim.schedule(former.callback)
      return ''
    end, false
  elseif former.rhs and former.expr == 1 then
    return function() return vim.api.nvim_eval(former.rhs) end, former.noremap == 0
  elseif former.rhs and former.rhs ~= '' then
    return function() return former.rhs end, former.noremap == 0
  end
  return function() return lhs end, false
end

---@param lhs string|false|nil
---@param act fun(): boolean
---@param desc string
local function map(lhs, act, desc)
  if not lhs then return end
  local fallback, remap = former_mapping(lhs)
  vim.keymap.set('i', lhs, function()
    return act() and '' or fallback()
  end, { expr = true, remap = remap, silent = true, desc = desc })
end

local function map_keys(keys)
  map(keys.accept, vim.lsp.inline_completion.get, 'FLeX-Assist: accept')
  local function turn(count)
    return function()
      vim.schedule(function() vim.lsp.inline_completion.select({ count = count }) end)
      return true
    end
  end
  map(keys.next, turn(1), 'FLeX-Assist: next suggestion')
  map(keys.previous, turn(-1), 'FLeX-Assist: previous suggestion')
end

local function client_of_buffer()
  return vim.lsp.get_clients({ name = NAME, bufnr = 0 })[1] or vim.lsp.get_clients({ name = NAME })[1]
end

--- One short text for a status line, e.g. 'python: python (active adapter)'; '' without a server.
---@return string
function M.status()
  local client = client_of_buffer()
  local state = client and states[client.id]
  if not state then return '' end
  return state.state == 'ready' and state.message or (state.state .. ': ' .. state.message)
end

--- Runs a command of the server's; `act` gets its answer, nil for none.
---@param command string
---@param done fun(answer: table|nil)? Gets the answer instead.
---@param act fun(answer: table)
local function ask(command, done, act)
  local client = client_of_buffer()
  if not client then
    vim.notify('FLeX-Assist: no server runs for this buffer', vim.log.levels.WARN)
    return
  end
  client:request('workspace/executeCommand', { command = command }, function(failed, answer)
    if answer == vim.NIL then answer = nil end
    if done then
      done(answer)
    elseif failed or not answer then
      vim.notify('FLeX-Assist: ' .. (failed and failed.message or 'nothing was asked that is still known'))
    else
      act(answer)
    end
  end)
end

local function show_why(why)
  local lines = vim.split(why.text, '\n')
  vim.lsp.util.open_floating_preview(lines, 'text', { border = 'rounded', title = 'Why' })
end

--- Asks why there was this suggestion, or none.
---@param done fun(why: table|nil)? Gets the answer; without it a window shows it.
function M.why(done) ask('flex-assist.why', done, show_why) end

--- Asks the model the same again, and why it answers so. Changes nothing.
---@param done fun(why: table|nil)? Gets the answer; without it a window shows it.
function M.again(done) ask('flex-assist.again', done, show_why) end

--- Writes the last requests into a file for a bug report, without code, names and places.
---@param done fun(report: table|nil)? Gets the file's `path`; without it the file is opened.
function M.report(done)
  ask('flex-assist.report', done, function(report)
    vim.cmd.split(vim.fn.fnameescape(report.path))
  end)
end

--- Turns ghost text on or off in all buffers; without an argument it turns it around.
---@param on boolean?
function M.enable(on)
  for _, client in ipairs(vim.lsp.get_clients({ name = NAME })) do
    local filter = { client_id = client.id }
    local wanted = on
    if wanted == nil then wanted = not vim.lsp.inline_completion.is_enabled(filter) end
    vim.lsp.inline_completion.enable(wanted, filter)
  end
end

local commands = {
  why = function() M.why() end,
  again = function() M.again() end,
  report = function() M.report() end,
  status = function() vim.notify('FLeX-Assist: ' .. M.status()) end,
  toggle = function() M.enable() end,
  restart = function()
    vim.lsp.enable(NAME, false)
    vim.defer_fn(function() vim.lsp.enable(NAME, true) end, 500)
  end,
}

local function make_command()
  vim.api.nvim_create_user_command('FlexAssist', function(call)
    local act = commands[call.args]
    if act then return act() end
    vim.notify('FLeX-Assist: unknown command ' .. call.args, vim.log.levels.ERROR)
  end, {
    nargs = 1,
    complete = function() return vim.fn.sort(vim.tbl_keys(commands)) end,
    desc = 'FLeX-Assist',
  })
end

--- Starts completing. Call it once, from init.lua.
---@param options flex_assist.Options?
function M.setup(options)
  if vim.fn.has('nvim-0.12') == 0 then
    vim.notify('FLeX-Assist needs Neovim 0.12 or later', vim.log.levels.ERROR)
    return
  end
  local chosen = vim.tbl_deep_extend('force', defaults, options or {})
  vim.lsp.config(NAME, {
    cmd = chosen.cmd,
    filetypes = chosen.filetypes or nil,
    root_markers = chosen.root_markers,
    init_options = chosen.settings,
    get_language_id = function(_, filetype) return language_ids[filetype] or filetype end,
    handlers = {
      ['flexAssist/status'] = function(_, state, context)
        states[context.client_id] = state
        vim.schedule(function()
          vim.api.nvim_exec_autocmds('User', { pattern = 'FlexAssistStatus', data = state })
        end)
      end,
    },
    -- Here, before any buffer is attached: other servers' ghost text is left as it is.
    on_init = function(client)
      vim.lsp.inline_completion.enable(true, { client_id = client.id })
    end,
    on_exit = function(_, _, client_id) states[client_id] = nil end,
  })
  vim.lsp.enable(NAME)
  map_keys(chosen.keys)
  make_command()
end

return M
