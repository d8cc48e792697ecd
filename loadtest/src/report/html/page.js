(function () {
  'use strict';
  var root = document.documentElement, button = document.getElementById('theme');
  var dark = window.matchMedia('(prefers-color-scheme: dark)');
  function isDark() { return root.dataset.theme ? root.dataset.theme === 'dark' : dark.matches; }
  function label() { button.textContent = isDark() ? 'Light' : 'Dark'; button.setAttribute('aria-label', 'Show in ' + (isDark() ? 'light' : 'dark') + ' colours'); }
  try { var kept = localStorage.getItem('loadtest-theme'); if (kept === 'dark' || kept === 'light') { root.dataset.theme = kept; } } catch (e) { /* Not kept from page to page then. */ }
  button.hidden = false;
  label();
  dark.addEventListener('change', label);
  button.addEventListener('click', function () {
    root.dataset.theme = isDark() ? 'light' : 'dark';
    try { localStorage.setItem('loadtest-theme', root.dataset.theme); } catch (e) { /* As above. */ }
    label();
  });

  function place(tip, holder, x, y) {
    var width = holder.clientWidth, left = x + 14;
    if (left + tip.offsetWidth > width) { left = Math.max(0, x - tip.offsetWidth - 14); }
    tip.style.left = left + 'px';
    tip.style.top = Math.max(0, y) + 'px';
  }
  function element(name, text) { var made = document.createElement(name); if (text !== undefined) { made.textContent = text; } return made; }

  document.querySelectorAll('.drawing').forEach(function (drawing) {
    var svg = drawing.querySelector('svg'), cursor = svg.querySelector('.cursor'), figure = drawing.parentNode;
    var rows = Array.prototype.slice.call(figure.querySelectorAll('tr[data-x]'));
    var names = Array.prototype.map.call(figure.querySelectorAll('thead th'), function (cell) { return cell.textContent; });
    var colours = Array.prototype.map.call(figure.querySelectorAll('.legend path'), function (path) { return path.getAttribute('class').match(/c\d/)[0]; });
    if (!rows.length) { return; }
    var box = svg.viewBox.baseVal, at = -1, tip = element('div');
    tip.className = 'tip'; tip.hidden = true; tip.setAttribute('role', 'status');
    drawing.appendChild(tip);
    function hide() { tip.hidden = true; cursor.setAttribute('hidden', ''); at = -1; }
    function show(number) {
      at = Math.max(0, Math.min(rows.length - 1, number));
      var row = rows[at], x = +row.dataset.x, heights = row.dataset.y.split(','), cells = row.children;
      cursor.textContent = '';
      var line = document.createElementNS(svg.namespaceURI, 'path');
      line.setAttribute('d', 'M' + x + ' 26V' + (box.height - 44));
      cursor.appendChild(line);
      tip.textContent = '';
      tip.appendChild(element('b', names[0] + ' ' + cells[0].textContent));
      heights.forEach(function (height, index) {
        if (height === '') { return; }
        var dot = document.createElementNS(svg.namespaceURI, 'circle');
        dot.setAttribute('cx', x); dot.setAttribute('cy', height); dot.setAttribute('r', 4.5); dot.setAttribute('class', colours[index]);
        cursor.appendChild(dot);
        var entry = element('div'), sample = element('i');
        sample.style.background = 'var(--' + colours[index] + ')';
        entry.appendChild(sample);
        entry.appendChild(document.createTextNode(names[index + 1] + '  ' + cells[index + 1].textContent));
        tip.appendChild(entry);
      });
      cursor.removeAttribute('hidden');
      tip.hidden = false;
      place(tip, drawing, x / box.width * drawing.clientWidth, 0.12 * drawing.clientHeight);
    }
    function nearest(x) {
      var best = 0;
      rows.forEach(function (row, number) { if (Math.abs(row.dataset.x - x) < Math.abs(rows[best].dataset.x - x)) { best = number; } });
      return best;
    }
    svg.addEventListener('pointermove', function (event) {
      var frame = svg.getBoundingClientRect();
      show(nearest((event.clientX - frame.left) / frame.width * box.width));
    });
    svg.addEventListener('pointerleave', hide);
    svg.addEventListener('blur', hide);
    svg.addEventListener('keydown', function (event) {
      var step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
      if (step) { show(at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step); event.preventDefault(); }
      if (event.key === 'Home') { show(0); event.preventDefault(); }
      if (event.key === 'End') { show(rows.length - 1); event.preventDefault(); }
      if (event.key === 'Escape') { hide(); }
    });
  });

  var tip = element('div');
  tip.className = 'tip'; tip.hidden = true; tip.style.position = 'fixed'; tip.style.whiteSpace = 'normal';
  document.body.appendChild(tip);
  document.querySelectorAll('[data-tip]').forEach(function (row) {
    function show() {
      var frame = row.getBoundingClientRect();
      tip.textContent = row.dataset.tip; tip.hidden = false;
      tip.style.left = Math.min(frame.left + frame.width / 3, window.innerWidth - tip.offsetWidth - 8) + 'px';
      tip.style.top = Math.max(4, frame.top - tip.offsetHeight - 4) + 'px';
    }
    function hide() { tip.hidden = true; }
    row.addEventListener('pointerenter', show); row.addEventListener('pointerleave', hide);
    row.addEventListener('focus', show); row.addEventListener('blur', hide);
  });
}());
