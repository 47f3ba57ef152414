"""The admin API: operations as paths (`routes`), answered (`serving`) and described (`description`)."""
