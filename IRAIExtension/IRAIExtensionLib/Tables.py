"""Read-only tables in a panel, as high as their rows."""

import qt

HEADER_HEIGHT = 22
BAD, GOOD = "#d62728", "#2c8a3f"


def fillTable(table, header, rows, verdicts=None, stretch=0):
    """Show rows of texts; `verdicts` ("good", "bad" or "") colour the last column, `stretch` takes the room left."""
    table.setColumnCount(len(header))
    table.setHorizontalHeaderLabels(header)
    table.setRowCount(len(rows))
    table.verticalHeader().hide()
    table.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
    table.setSelectionMode(qt.QAbstractItemView.NoSelection)
    table.setFocusPolicy(qt.Qt.NoFocus)
    table.setWordWrap(True)
    for row, texts in enumerate(rows):
        for column, text in enumerate(texts):
            item = qt.QTableWidgetItem(str(text))
            item.setToolTip(str(text))
            if verdicts and column == len(texts) - 1 and verdicts[row]:
                item.setForeground(qt.QBrush(qt.QColor(BAD if verdicts[row] == "bad" else GOOD)))
            table.setItem(row, column, item)
    sections = table.horizontalHeader()
    sections.setSectionResizeMode(qt.QHeaderView.ResizeToContents)
    sections.setSectionResizeMode(stretch, qt.QHeaderView.Stretch)
    table.resizeRowsToContents()
    table.setVerticalScrollBarPolicy(qt.Qt.ScrollBarAlwaysOff)
    rowHeights = sum(table.rowHeight(row) for row in range(len(rows)))
    sections.setFixedHeight(HEADER_HEIGHT)
    table.setFixedHeight(HEADER_HEIGHT + rowHeights + 2)
