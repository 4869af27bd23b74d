"""How weights are split over ranks: plans are data, one applier puts them on a module, one sharder on a checkpoint."""
